"""How sure a set of verdicts is: counts, winning score with its interval, sign test, slot preference.

Every figure depends on counts alone, so the order of the verdicts changes nothing, and swapping the
two models mirrors every figure exactly, the bootstrap interval included.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alpagasus_ray.compare.verdicts import Verdict, winner


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of model A against model B over the prompts that were judged in both orders."""

    n: int
    """Judged prompts: win + tie + lose. Failures are beside it, not in it."""
    win: int
    tie: int
    lose: int
    failures: int
    """Prompts without an outcome."""
    failure_reasons: dict[str, int]
    """The failures by reason, in the order of their names."""
    winning_score: float | None
    """(win - lose) / n + 1: between 0 and 2, 1 where the models are even; None where n is 0."""
    winning_score_low: float | None
    """Lower end of the bootstrap interval of the winning score; None where n is 0."""
    winning_score_high: float | None
    """Upper end of it."""
    confidence: float
    """The interval's nominal coverage, for instance 0.95."""
    flips: int
    """Prompts on which the two orders name different winners."""
    first_slot_wins: int
    """Judgments (two for each judged prompt) that preferred the answer shown first."""
    second_slot_wins: int
    """Judgments that preferred the answer shown second."""
    draws: int
    """Judgments with equal scores."""
    sign_test_z: float | None
    """(win - lose) / sqrt(win + lose), ties left out; None where there are only ties."""
    sign_test_p: float | None
    """Two-sided p of it under the normal approximation."""
    sign_test_p_exact: float | None
    """Two-sided p under the binomial distribution itself."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)


def summarize(
    verdicts: Iterable[Verdict],
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Return the figures of one test set.

    Without a single judged prompt n is 0 and every rate is None, so that results can say so. Raises
    ValueError for a confidence outside (0, 1) or fewer than one resample.
    """
    return pool({"": verdicts}, num_resamples=num_resamples, confidence=confidence, seed=seed)


def pool(
    verdicts_by_testset: Mapping[str, Iterable[Verdict]],
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Return the figures of all test sets together; the bootstrap keeps the size of each.

    Resampling within each test set is what the design says: the questions were drawn set by set, so the
    share of easy and hard sets is no part of the chance. Raises as summarize does.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, not between 0 and 1")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}, not at least 1")
    testsets = [list(verdicts_by_testset[name]) for name in sorted(verdicts_by_testset)]
    verdicts = [verdict for testset in testsets for verdict in testset]
    low, high = bootstrap_interval(
        [count_outcomes(testset) for testset in testsets],
        num_resamples=num_resamples,
        confidence=confidence,
        seed=seed,
    )
    win, tie, lose = count_outcomes(verdicts)
    reasons = Counter(verdict.failure or "unknown" for verdict in verdicts if verdict.outcome is None)
    slots = _count_slots(verdicts)
    z, p, p_exact = sign_test(win, lose)
    return Summary(
        n=win + tie + lose,
        win=win,
        tie=tie,
        lose=lose,
        failures=reasons.total(),
        failure_reasons=dict(sorted(reasons.items())),
        winning_score=winning_score(win, tie, lose),
        winning_score_low=low,
        winning_score_high=high,
        confidence=confidence,
        flips=sum(verdict.flipped for verdict in verdicts),
        first_slot_wins=slots[1],
        second_slot_wins=slots[-1],
        draws=slots[0],
        sign_test_z=z,
        sign_test_p=p,
        sign_test_p_exact=p_exact,
    )


def count_outcomes(verdicts: Iterable[Verdict]) -> tuple[int, int, int]:
    """Return (win, tie, lose) of model A; failures are in none of them."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return counts["win"], counts["tie"], counts["lose"]


def winning_score(win: int, tie: int, lose: int) -> float | None:
    """Return (win - lose) / n + 1, or None without a verdict (arXiv 2307.08701, section 4.2).

    >>> round(winning_score(284, 210, 236), 4)
    1.0658
    """
    n = win + tie + lose
    return (win - lose) / n + 1 if n else None


def sign_test(win: int, lose: int) -> tuple[float | None, float | None, float | None]:
    """Return z, its two-sided p, and the exact two-sided p, that wins and losses are equally likely.

    Ties tell nothing and are left out; (None, None, None) where there are no others. z is
    (win - lose) / sqrt(win + lose), without a continuity correction.
    """
    n = win + lose
    if n == 0:
        return None, None, None
    z = (win - lose) / math.sqrt(n)
    return z, math.erfc(abs(z) / math.sqrt(2)), _binomial_p(n, min(win, lose))


def bootstrap_interval(
    outcomes: Sequence[tuple[int, int, int]], *, num_resamples: int, confidence: float, seed: int
) -> tuple[float | None, float | None]:
    """Return the percentile interval of the winning score over test sets given as (win, tie, lose).

    Prompts are resampled within their test set. Drawing n verdicts with replacement is drawing their
    counts from a multinomial distribution, which takes milliseconds where rows would take seconds.
    (None, None) without a verdict; a point where all verdicts agree, which is then no measure of doubt.
    """
    judged = [counts for counts in outcomes if sum(counts)]
    n = sum(map(sum, judged))
    if n == 0:
        return None, None
    # The models have no order, but random draws do: always draw for the one that is ahead (in the first
    # test set where one is), then turn the interval round. So swapping the models mirrors it exactly.
    balances = [win - lose for win, _, lose in judged]
    behind = balances < [0] * len(judged)
    ordered = [(lose, tie, win) for win, tie, lose in judged] if behind else judged
    low, high = _balance_interval(ordered, num_resamples, confidence, seed)
    if not any(balances):
        low, high = (low - high) / 2, (high - low) / 2
    if behind:
        low, high = -high, -low
    return 1 + low / n, 1 + high / n


def _balance_interval(
    outcomes: Sequence[tuple[int, int, int]], num_resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Return the interval of win - lose over all test sets, in prompts."""
    generator = np.random.default_rng(seed)
    balance = np.zeros(num_resamples, dtype=np.int64)
    for counts in outcomes:
        size = sum(counts)
        drawn = generator.multinomial(size, [count / size for count in counts], size=num_resamples)
        balance += drawn[:, 0] - drawn[:, 2]
    tail = (1 - confidence) / 2
    low, high = np.quantile(balance, [tail, 1 - tail])
    return float(low), float(high)


def _binomial_p(n: int, fewer: int) -> float:
    """Return 2 * P(X <= fewer), at most 1, for X ~ Binomial(n, 1/2); in logarithms, so for any n."""
    k = np.arange(1, fewer + 1)
    log_ways = np.concatenate(([0.0], np.cumsum(np.log(n - k + 1) - np.log(k))))
    return min(1.0, 2 * float(np.exp(log_ways - n * math.log(2)).sum()))


def _count_slots(verdicts: Iterable[Verdict]) -> Counter[int]:
    """Count the judgments of judged prompts by preferred slot: 1 the first, -1 the second, 0 neither."""
    slots: Counter[int] = Counter()
    for verdict in verdicts:
        if verdict.first is not None and verdict.swapped is not None:
            slots[winner(verdict.first)] += 1
            slots[-winner(verdict.swapped)] += 1
    return slots
