"""How any model is asked: the protocol, the providers, the ledger of paid replies."""
