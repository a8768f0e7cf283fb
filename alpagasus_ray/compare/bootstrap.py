"""The bootstrap interval of a winning score, and how many prompts more would make it clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

Counts = tuple[int, int, int]
"""(win, tie, lose) of model A in one test set."""
POWER = 0.8
"""Chance of a clear result that `more_prompts_needed` asks for: Cohen's convention (Statistical Power
Analysis for the Behavioral Sciences, 2nd ed. 1988, section 2.4)."""


def bootstrap_interval(
    outcomes: Sequence[Counts], *, num_resamples: int, confidence: float, seed: int
) -> tuple[float | None, float | None]:
    """Return the percentile interval of the winning score over test sets given as (win, tie, lose).

    Prompts are resampled within their test set. Drawing n verdicts with replacement is drawing their
    counts from a multinomial distribution, which takes milliseconds where rows would take seconds.
    (None, None) without a verdict. Where all verdicts are the same, resampling shows no doubt: the interval
    is what the exact bound on their share leaves open, as the others could be all wins, or all losses.
    """
    judged = [counts for counts in outcomes if sum(counts)]
    n = sum(map(sum, judged))
    if n == 0:
        return None, None
    if len(same := {verdict for counts in judged for verdict in range(3) if counts[verdict]}) == 1:
        # win, tie, lose: 2, 1, 0 points.
        score, bound = 2.0 - same.pop(), exact_bound(n, confidence)
        return bound * score, bound * score + (1 - bound) * 2
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


def exact_bound(n: int, confidence: float) -> float:
    """Return the least share of a verdict that all of n drawn had, at a two-sided confidence.

    Clopper and Pearson's interval for n of n (Biometrika 26, 1934).

    >>> round(exact_bound(6, 0.95), 3)
    0.541
    """
    return float(((1 - confidence) / 2) ** (1 / n))


def _balance_interval(
    outcomes: Sequence[Counts], num_resamples: int, confidence: float, seed: int
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


def more_prompts_needed(
    outcomes: Sequence[Counts], interval: tuple[float | None, float | None], *, confidence: float
) -> int | None:
    """Return how many prompts like these are still to be judged, so that the result would be clear.

    Clear is an interval of the winning score that leaves out 1. With n prompts in all it does so with
    probability 0.8 where n = ((z1 + z2) s / d)^2, where the true effect is the observed d = (win - lose) / n.
    z1 and z2 are the normal quantiles of 1 - (1 - confidence) / 2 and of 0.8, and s^2 is the variance of
    one verdict (1, 0 or -1) within its test set. This is the usual sample size for a mean (Lachin,
    Controlled Clinical Trials 2, 1981; for evaluations of models: Miller, arXiv 2411.00640).

    None where `interval` leaves out 1 already, where wins and losses are exactly as many (no number of
    prompts would show a difference of nil), and without a verdict. The observed effect is itself
    uncertain, and near nil the number grows without limit: it is an order of magnitude, not a promise.
    """
    judged = [counts for counts in outcomes if sum(counts)]
    n = sum(map(sum, judged))
    balance = sum(win - lose for win, _, lose in judged)
    low, high = interval
    if low is None or high is None or balance == 0 or low > 1 or high < 1:
        return None
    spread = sum(win + lose - (win - lose) ** 2 / (win + tie + lose) for win, tie, lose in judged)
    if not spread:  # all verdicts so far are wins, or losses: the exact bound has to leave half behind
        return math.ceil(math.log((1 - confidence) / 2) / math.log(0.5)) - n
    quantiles = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
    return max(1, math.ceil(quantiles**2 * spread * n / balance**2) - n)
