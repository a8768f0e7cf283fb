"""Which rows an arm is made of. Pure; a new way is one function and one line in SELECTORS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from alpagasus_ray.corpus.triplets import seeded_draw
from alpagasus_ray.recipe import ArmSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be chosen."""

    position: int
    """Its place in the source file."""
    triplet_id: str
    score: float | None
    failure: str | None = None
    """Why there is no score."""


@dataclass(frozen=True)
class Selection:
    """The rows of an arm, and why each other row is not in it."""

    kept: frozenset[int]
    """Positions."""
    dropped: dict[int, str]
    """Reasons by position."""
    threshold: float | None = None
    """The least score that is kept, where the selector had to find it."""


Selector = Callable[[Sequence[Candidate], ArmSettings], Selection]


def select_full(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep every row, graded or not."""
    return Selection(frozenset(candidate.position for candidate in candidates), {})


def select_by_threshold(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep the rows with score >= threshold (AlpaGasus, arXiv 2307.08701, section 2.2)."""
    assert settings.threshold is not None
    return _all_but(candidates, _below(candidates, settings.threshold))


def select_by_share(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep the rows that reach the threshold whose share of the scored rows is nearest to keep_share.

    The share is one of the scored rows: a row that the judge could not score says nothing of where its
    scale should be cut, and asking for it again must not move the others. Nobody is drawn among ties.
    """
    assert settings.keep_share is not None
    scores = [candidate.score for candidate in candidates if candidate.score is not None]
    if not scores:
        return _all_but(candidates, _below(candidates, 0.0))
    threshold = threshold_for_share(scores, settings.keep_share)
    return _all_but(candidates, _below(candidates, threshold), threshold)


def threshold_for_share(scores: Sequence[float], share: float) -> float:
    """Return the score t for which the share of `scores` with score >= t is nearest to `share`.

    Of two that are equally near it is the stricter. Only scores that occur are considered, so at least
    one row is kept. Nothing but the order of the scores counts: any judge's scale will do. Raises
    ValueError where there are no scores.

    >>> threshold_for_share([5.0, 4.5, 4.5, 4.0, 3.0], share=0.5)
    4.5
    """
    wanted = Fraction(str(share)) * len(scores)  # exact: rounding must not decide between equals
    reached, distances = 0, []
    for score, count in sorted(Counter(scores).items(), reverse=True):
        reached += count
        distances.append((abs(reached - wanted), -score))
    return -min(distances)[1]


def select_top_k(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep the k best rows; among equal scores a seeded draw decides, not the place in the file."""
    assert settings.k is not None
    scored = [candidate for candidate in candidates if candidate.score is not None]
    ranked = sorted(
        scored, key=lambda candidate: (-(candidate.score or 0.0), *_draw(candidate, settings.seed))
    )
    dropped = {candidate.position: f"not among the best {settings.k}" for candidate in ranked[settings.k :]}
    dropped |= {
        candidate.position: _unscored(candidate) for candidate in candidates if candidate.score is None
    }
    return _all_but(candidates, dropped)


def select_random(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep `count` rows, drawn without a look at their scores."""
    assert settings.count is not None
    drawn = sorted(candidates, key=lambda candidate: _draw(candidate, settings.seed))
    dropped = {candidate.position: "not drawn" for candidate in drawn[settings.count :]}
    return _all_but(candidates, dropped)


SELECTORS: dict[str, Selector] = {
    "full": select_full,
    "threshold": select_by_threshold,
    "keep-share": select_by_share,
    "top-k": select_top_k,
    "random": select_random,
}


def _draw(candidate: Candidate, seed: int) -> tuple[bytes, int]:
    """Return a row's place in a seeded shuffle; rows of the same content are told apart by their places."""
    return seeded_draw(candidate.triplet_id, seed), candidate.position


def _below(candidates: Sequence[Candidate], threshold: float) -> dict[int, str]:
    """Return why rows do not reach a threshold, by position."""
    dropped = {}
    for candidate in candidates:
        if candidate.score is None:
            dropped[candidate.position] = _unscored(candidate)
        elif candidate.score < threshold:
            dropped[candidate.position] = f"score below {threshold:g}"
    return dropped


def _unscored(candidate: Candidate) -> str:
    return f"unscored: {candidate.failure or 'not graded'}"


def _all_but(
    candidates: Sequence[Candidate], dropped: dict[int, str], threshold: float | None = None
) -> Selection:
    kept = frozenset(candidate.position for candidate in candidates if candidate.position not in dropped)
    return Selection(kept, dropped, threshold)
