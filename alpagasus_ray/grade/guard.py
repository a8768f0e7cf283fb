"""Whether a judge's scores can select at all: users saw newer judges give nearly every row 4.5."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alpagasus_ray.recipe import GuardSettings

MIN_ROWS = 30
"""Of fewer scores nothing is said: 28 of 30 equal ones may be chance, even from a judge that gives its most
frequent score to 80 % of the rows."""
MIN_PLANTED = 10
"""Of fewer spoilt rows nothing is said: half of 9 is too near to seven tenths."""
WAY_OUT = "try another judge or rubric, or a stronger prompt"


@dataclass(frozen=True, slots=True)
class Look:
    """What a judge's scores look like."""

    num_rows: int
    """Rows with a score."""
    mode: float | None
    """The most frequent score; of equally frequent ones the highest."""
    mode_share: float
    """Share of the rows that have it."""
    num_distinct: int
    entropy_bits: float
    """Of the scores' distribution: 0 where all are equal."""
    best_two_share: float
    """Share of the rows that have one of the two highest scores given."""
    num_planted: int
    """Spoilt rows that were scored together with their sound twins."""
    planted_agreement: float | None
    """Share of them scored below their twins, ties counting half: 0.5 is chance."""


def look(scores: Sequence[float], planted: Iterable[tuple[float, float]] = ()) -> Look:
    """Return what these scores look like; `planted` holds pairs (score of the sound row, of the spoilt one).

    >>> look([4.5, 4.5, 4.0, 3.0], planted=[(4.5, 2.0), (4.0, 4.0)]).planted_agreement
    0.75
    """
    counts = Counter(scores)
    pairs = list(planted)
    num_rows = len(scores)
    mode = max(counts, key=lambda score: (counts[score], score), default=None)
    shares = [count / num_rows for count in counts.values()]
    return Look(
        num_rows=num_rows,
        mode=mode,
        mode_share=max(shares, default=0.0),
        num_distinct=len(counts),
        entropy_bits=-math.fsum(share * math.log2(share) for share in shares) + 0.0,
        best_two_share=sum(counts[score] for score in sorted(counts)[-2:]) / max(num_rows, 1),
        num_planted=len(pairs),
        planted_agreement=math.fsum(map(_agreement, pairs)) / len(pairs) if pairs else None,
    )


def complaint(look: Look, settings: GuardSettings) -> str | None:
    """Return in one line why these scores cannot select and what could be done; None where they can.

    Nothing is said of fewer than MIN_ROWS scores.
    """
    if look.num_rows < MIN_ROWS:
        return None
    if look.mode_share > settings.max_mode_share:
        return (
            f"the judge gives {100 * look.mode_share:.0f} % of {look.num_rows:,} rows the same score "
            f"({look.mode:g}): its scores cannot select; {WAY_OUT}"
        )
    if look.entropy_bits < settings.min_entropy_bits:
        return (
            f"the judge's scores of {look.num_rows:,} rows hold {look.entropy_bits:.2f} bits "
            f"({look.num_distinct} different scores, {100 * look.mode_share:.0f} % are {look.mode:g}): "
            f"they can hardly select; {WAY_OUT}"
        )
    agreement = look.planted_agreement
    if agreement is None or look.num_planted < MIN_PLANTED or agreement >= settings.min_planted_agreement:
        return None
    return (
        f"the judge scores {look.num_planted} outputs that were spoilt on purpose below the sound ones "
        f"{100 * agreement:.0f} % of the time (50 % is chance): its scores do not tell good rows from bad; "
        f"{WAY_OUT}"
    )


def unreadable_complaint(unreadable: Mapping[str, int], num_rows: int) -> str | None:
    """Return in one line that most of a judge's replies hold no score that can be read; None where they do.

    `unreadable` counts the replies by the reason, of `num_rows` that were asked for.
    """
    count = sum(unreadable.values())
    if num_rows < MIN_ROWS or 2 * count <= num_rows:
        return None
    reason = max(unreadable, key=lambda one: unreadable[one])
    return (
        f"{count:,} of the judge's first {num_rows:,} replies hold no score that can be read (mostly: "
        f"{reason}); see what it says with --limit 5, in RUN/reviews, and mend the rubric's question, scale "
        "or reader"
    )


def _agreement(pair: tuple[float, float]) -> float:
    sound, spoilt = pair
    return 1.0 if spoilt < sound else 0.5 if spoilt == sound else 0.0
