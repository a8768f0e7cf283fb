"""The learning rate of each step. Pure."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, num_steps: int, num_warmup_steps: int, peak: float) -> float:
    """Return the learning rate of a step (0 is the first): linear from 0 up to the peak, then a half cosine.

    The same values as transformers.get_cosine_schedule_with_warmup.
    """
    if step < num_warmup_steps:
        return peak * step / max(1, num_warmup_steps)
    share = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    return peak * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def num_warmup_steps(num_steps: int, warmup_ratio: float) -> int:
    """Return the warm-up's length in steps, rounded up as transformers.TrainingArguments does."""
    return math.ceil(num_steps * warmup_ratio)
