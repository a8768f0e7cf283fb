"""What a reader of scores promises: the scale, and the reasons for which a reply cannot be read."""

from __future__ import annotations

import math
from typing import Protocol

EMPTY_REPLY = "empty reply"
NO_SCORE = "no score"
ONE_SCORE = "one score of two"
SEVERAL_SCORES = "several scores"
OUT_OF_SCALE = "out of scale"
NOT_FINITE = "not finite"
SLOW_PATTERN = "pattern too slow"
REASONS = (EMPTY_REPLY, NO_SCORE, ONE_SCORE, SEVERAL_SCORES, OUT_OF_SCALE, NOT_FINITE, SLOW_PATTERN)
"""All reasons there are, so that failures can be counted by them."""


class UnreadableScoreError(ValueError):
    """The reply holds no score that can be relied on; `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ScoreFormat(Protocol):
    """What a reader must know of a rubric."""

    @property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest score, both included."""
        ...

    @property
    def scores_per_reply(self) -> int:
        """1 for grading, 2 for comparing."""
        ...

    @property
    def pattern(self) -> str:
        """The regular expression of the reader `pattern`, with one group; empty where there is none."""
        ...


def on_scale(scores: tuple[float, ...], rubric: ScoreFormat) -> tuple[float, ...]:
    """Return the scores; raises UnreadableScoreError unless all are finite and on the rubric's scale."""
    low, high = rubric.scale
    if not all(math.isfinite(score) for score in scores):
        raise UnreadableScoreError(NOT_FINITE)
    if not all(low <= score <= high for score in scores):
        raise UnreadableScoreError(OUT_OF_SCALE)
    return scores
