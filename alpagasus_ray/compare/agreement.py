"""How far a judge agrees with people, and what it leans on besides: figures over labelled pairs. Pure.

Every figure has its own n beside it, and what was left out of it. The order of the pairs changes nothing, nor
does turning all of them round; turning some of them changes what a constant judge would reach, and Fleiss'
kappa.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

import numpy as np

from alpagasus_ray.compare.bootstrap import exact_bound
from alpagasus_ray.compare.kappas import cohens_kappa, fleiss_kappa
from alpagasus_ray.compare.length_bias import LengthBias, length_bias
from alpagasus_ray.compare.verdicts import Outcome, Verdict, winner
from alpagasus_ray.compare.votes import OUTCOMES, Votes

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """What people and the judge said of one pair of answers."""

    votes: Votes
    verdict: Verdict
    length_a: int
    """Of answer A, in characters."""
    length_b: int


@dataclass(frozen=True, slots=True)
class WithoutTies:
    """The pairs on which neither the judge nor the people say tie (setup S2 of arXiv 2306.05685, 4.2)."""

    n: int
    accuracy: float | None
    majority_share: float | None


@dataclass(frozen=True, slots=True)
class People:
    """How far people agree with each other, over the judged pairs with two labels or more.

    A judge cannot be expected to agree with people more than they do among themselves.
    """

    n: int
    """Pairs of answers with two labels or more; the others say nothing here."""
    human_human_agreement: float | None
    """Share of all pairs of labels of the same answers that are the same label (FastChat, llm_judge,
    compute_agreement.py)."""
    judge_human_agreement: float | None
    """Share of the labels of the same answers that are what the judge says: what stands beside it."""
    fleiss_kappa: float | None


@dataclass(frozen=True, slots=True)
class LeaveOneOut:
    """One annotator, and the judge in the same place, against the majority of the others (three in all)."""

    n: int
    """Labels of annotators that were left out, where the others have a majority."""
    no_majority: int
    """Such labels for which the others have none."""
    human: float | None
    """Share in which the annotator says what most others say."""
    judge: float | None
    """Share in which the judge does."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What the judge says by the place in which it reads an answer; two judgments for each judged pair."""

    first_slot_wins: int
    second_slot_wins: int
    draws: int
    second_slot_share: float | None
    """Of the judgments with a winner. Each answer stands in both slots: 0.5 is no preference."""
    flips: int
    """Pairs on which the two orders name different winners."""
    flip_share: float | None
    """Of the judged pairs."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Figures of one judge under one rule."""

    n: int
    """Pairs with a verdict and a human majority; those without stand beside it."""
    failures: int
    """Pairs without a verdict of the judge."""
    failure_reasons: dict[str, int]
    no_majority: int
    """Pairs with a verdict on which people are split (a three-way split, or one to one)."""
    accuracy: float | None
    """Share of the n on which the judge says what most people say."""
    accuracy_low: float | None
    """Lower end of its bootstrap interval over pairs."""
    accuracy_high: float | None
    confidence: float
    """The interval's nominal coverage."""
    majority_class: Outcome | None
    """The people's most frequent label; None without pairs, and where two are equally frequent."""
    majority_share: float | None
    """Its share of the n: the accuracy of a judge that always says it and reads nothing."""
    above_majority_share: float | None
    """accuracy - majority_share."""
    kappa: float | None
    """Cohen's, of the judge and the people's majority."""
    confusion: dict[Outcome, dict[Outcome, int]]
    """Pairs by the people's majority, then by the judge's verdict."""
    without_ties: WithoutTies
    people: People
    leave_one_out: LeaveOneOut
    slots: Slots
    length: LengthBias

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return asdict(self)


def agreement(pairs: Sequence[JudgedPair], *, num_resamples: int = 10_000, seed: int = 0) -> Agreement:
    """Return the figures of a judge on pairs; a figure without a pair to stand on is None."""
    judged = [(pair, pair.verdict.outcome) for pair in pairs if pair.verdict.outcome is not None]
    said = [(pair, human, outcome) for pair, outcome in judged if (human := pair.votes.majority) is not None]
    table = Counter((human, outcome) for _, human, outcome in said)
    right = sum(table[outcome, outcome] for outcome in OUTCOMES)
    low, high = accuracy_interval(right, len(said), num_resamples=num_resamples, seed=seed)
    majority_class, majority_share = _majority([human for _, human, _ in said])
    accuracy = share(right, len(said))
    reasons = Counter(pair.verdict.failure or "unknown" for pair in pairs if pair.verdict.outcome is None)
    return Agreement(
        n=len(said),
        failures=len(pairs) - len(judged),
        failure_reasons=dict(sorted(reasons.items())),
        no_majority=len(judged) - len(said),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        confidence=CONFIDENCE,
        majority_class=majority_class,
        majority_share=majority_share,
        above_majority_share=None
        if accuracy is None or majority_share is None
        else accuracy - majority_share,
        kappa=cohens_kappa([[table[human, outcome] for outcome in OUTCOMES] for human in OUTCOMES]),
        confusion={human: {outcome: table[human, outcome] for outcome in OUTCOMES} for human in OUTCOMES},
        without_ties=_without_ties([(human, outcome) for _, human, outcome in said]),
        people=_people([(pair.votes, outcome) for pair, outcome in judged]),
        leave_one_out=_leave_one_out([(pair.votes, outcome) for pair, outcome in judged]),
        slots=_slots([pair.verdict for pair, _ in judged]),
        length=length_bias(
            [(pair.length_a, pair.length_b, human, outcome) for pair, human, outcome in said],
            num_resamples=num_resamples,
            confidence=CONFIDENCE,
            seed=seed,
        ),
    )


def share(part: int, whole: int) -> float | None:
    """Return part / whole; None where there is nothing."""
    return part / whole if whole else None


def accuracy_interval(
    right: int, n: int, *, num_resamples: int, seed: int, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Return the percentile bootstrap interval of right / n over rows; (None, None) without a row.

    Drawing n rows with replacement is drawing how many of them are right from a binomial distribution.
    """
    if n == 0:
        return None, None
    if right in (0, n):
        # All alike, resampling shows no doubt: the exact bound (Clopper and Pearson, Biometrika 26, 1934).
        bound = exact_bound(n, confidence)
        return (0.0, 1 - bound) if right == 0 else (bound, 1.0)
    drawn = np.random.default_rng(seed).binomial(n, right / n, size=num_resamples) / n
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _majority(labels: Sequence[Outcome]) -> tuple[Outcome | None, float | None]:
    """Return the most frequent label and its share."""
    votes = Votes().plus(*labels)
    return votes.majority, share(max(votes), len(labels))


def _without_ties(said: Sequence[tuple[Outcome, Outcome]]) -> WithoutTies:
    kept = [(human, outcome) for human, outcome in said if "tie" not in (human, outcome)]
    right = sum(human == outcome for human, outcome in kept)
    majority_share = _majority([human for human, _ in kept])[1]
    return WithoutTies(len(kept), share(right, len(kept)), majority_share)


def _people(judged: Sequence[tuple[Votes, Outcome]]) -> People:
    several = [(votes, outcome) for votes, outcome in judged if votes.total >= 2]
    same = sum(comb(count, 2) for votes, _ in several for count in votes)
    of_judge = sum(votes.of(outcome) for votes, outcome in several)
    return People(
        n=len(several),
        human_human_agreement=share(same, sum(comb(votes.total, 2) for votes, _ in several)),
        judge_human_agreement=share(of_judge, sum(votes.total for votes, _ in several)),
        fleiss_kappa=fleiss_kappa([votes for votes, _ in several]),
    )


def _leave_one_out(judged: Sequence[tuple[Votes, Outcome]]) -> LeaveOneOut:
    n = split = human = judge = 0
    for votes, outcome in judged:
        if votes.total < 3:
            continue
        for label, count in zip(OUTCOMES, votes, strict=True):
            others = votes.minus(label).majority if count else None
            if others is None:
                split += count
                continue
            n += count
            human += count * (label == others)
            judge += count * (outcome == others)
    return LeaveOneOut(n, split, share(human, n), share(judge, n))


def _slots(verdicts: Sequence[Verdict]) -> Slots:
    preferred: Counter[int] = Counter()
    for verdict in verdicts:
        assert verdict.first is not None and verdict.swapped is not None
        preferred[winner(verdict.first)] += 1
        preferred[-winner(verdict.swapped)] += 1
    flips = sum(verdict.flipped for verdict in verdicts)
    return Slots(
        first_slot_wins=preferred[1],
        second_slot_wins=preferred[-1],
        draws=preferred[0],
        second_slot_share=share(preferred[-1], preferred[1] + preferred[-1]),
        flips=flips,
        flip_share=share(flips, len(verdicts)),
    )
