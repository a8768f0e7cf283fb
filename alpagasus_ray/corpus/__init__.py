"""Instruction data: triplets, test sets, answers, the prompt template, the toy world."""
