"""Stage: trained models answer behind one OpenAI-compatible endpoint."""
