"""Stage: a base model is fine-tuned on an arm. The only room that knows torch."""
