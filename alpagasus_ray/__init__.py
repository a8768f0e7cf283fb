"""Grade, select, fine-tune, serve and compare: the AlpaGasus experiment as a platform on Ray."""

__version__ = "0.1.0"
