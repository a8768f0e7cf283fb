"""The lines of a score statement taken together, and held against the lines that follow it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence

from alpagasus_ray.judge.score_format import (
    NO_SCORE,
    ONE_SCORE,
    SEVERAL_SCORES,
    ScoreFormat,
    UnreadableScoreError,
)
from alpagasus_ray.judge.score_lines import ScoreLine, read_line

_ARRANGEMENTS = {"ss": 1, "1s2s": 1, "s1s2": 1, "12ss": 1, "2s1s": -1, "s2s1": -1, "21ss": -1}
"""Orders in which two scores (s) and the names of their assistants may stand; -1: assistant 2 comes first."""
_MAX_RESTATEMENT_CHARS = 200  # a line that states a score a second time is short; others need no reading
_DIGIT = re.compile(r"[\d½]")
_CORRECTION = re.compile(
    r"(?i)\W*(?:actually|wait|correction|sorry|oops|revised|updated|edit|on reflection)\b"
)
_FINAL = re.compile(
    r"(?i)\W*(?:(?:so|thus|therefore|hence),? )?(?:my |the )?(?:final|overall|total|revised)\b"
)


def arrange(statement: Iterable[ScoreLine], wanted: int) -> tuple[float, ...]:
    """Return the scores of the statement's lines in the order of the slots."""
    lines = list(statement)
    scores = tuple(score for line in lines for score in line.scores)
    if len(scores) < wanted:
        raise UnreadableScoreError(ONE_SCORE if scores else NO_SCORE)
    if wanted == 1:
        return scores
    scoring = [line for line in lines if line.scores]
    order = "".join(line.order for line in scoring)
    if order == "ss":
        # Two bare lines are the two values asked for; two labelled ones may be two criteria of one answer.
        if len(scoring) > 1 and any(line.has_words for line in scoring):
            raise UnreadableScoreError(SEVERAL_SCORES)
        order = "".join(line.order for line in lines if not line.scores) + order
    if order not in _ARRANGEMENTS:
        raise UnreadableScoreError(SEVERAL_SCORES)
    return scores[:: _ARRANGEMENTS[order]]


def refuse_second_opinion(
    rest: Sequence[str], said: ScoreLine, scores: tuple[float, ...], rubric: ScoreFormat
) -> None:
    """Raise where the lines after the statement state other scores: then neither are the scores.

    The next line does so in the same manner as `said`, or takes it back; any line, as what is final.
    """
    for place, line in enumerate(rest):
        if len(line) > _MAX_RESTATEMENT_CHARS or not _DIGIT.search(line):
            continue
        if place == 0 and _CORRECTION.match(line) and any(map(str.isdecimal, line)):
            raise UnreadableScoreError(SEVERAL_SCORES)
        again = None
        with contextlib.suppress(UnreadableScoreError):
            again = read_line(line, rubric)
        if not again or again.scores == scores or len(again.scores) != rubric.scores_per_reply:
            continue
        in_the_same_manner = (
            place == 0 and again.has_words == said.has_words and len(said.scores) == len(scores)
        )
        if in_the_same_manner or _FINAL.match(line):
            raise UnreadableScoreError(SEVERAL_SCORES)
