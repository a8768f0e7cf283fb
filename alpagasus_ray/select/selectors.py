"""Which rows an arm is made of. Pure; a new way is one function and one line in SELECTORS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


Selector = Callable[[Sequence[Candidate], ArmSettings], Selection]


def select_full(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep every row, graded or not."""
    return Selection(frozenset(candidate.position for candidate in candidates), {})


def select_by_threshold(candidates: Sequence[Candidate], settings: ArmSettings) -> Selection:
    """Keep the rows with score >= threshold (AlpaGasus, arXiv 2307.08701, section 2.2)."""
    threshold = settings.threshold
    assert threshold is not None
    dropped = {}
    for candidate in candidates:
        if candidate.score is None:
            dropped[candidate.position] = _unscored(candidate)
        elif candidate.score < threshold:
            dropped[candidate.position] = f"score below {threshold:g}"
    return _all_but(candidates, dropped)


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
    "top-k": select_top_k,
    "random": select_random,
}


def _draw(candidate: Candidate, seed: int) -> tuple[bytes, int]:
    """Return a row's place in a seeded shuffle.

    It hangs on the row's content, so that an edited row elsewhere in the file moves no other.
    """
    text = f"{seed}:{candidate.triplet_id}".encode()
    return hashlib.blake2b(text, digest_size=8).digest(), candidate.position


def _unscored(candidate: Candidate) -> str:
    return f"unscored: {candidate.failure or 'not graded'}"


def _all_but(candidates: Sequence[Candidate], dropped: dict[int, str]) -> Selection:
    kept = frozenset(candidate.position for candidate in candidates if candidate.position not in dropped)
    return Selection(kept, dropped)
