"""What two judgments of one prompt, one in each order, say about two models A and B."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from alpagasus_ray.errors import UserError, nearest

Outcome = Literal["win", "tie", "lose"]
"""For model A."""
Scores = tuple[float, float]
"""The scores of (A, B), in this order whichever slot each answer stood in."""
Rule = Callable[[int, int], Outcome]
"""Takes who won each judgment (1: A, 0: nobody, -1: B) and names the outcome."""
FIRST, SWAPPED = "first", "swapped"
"""The orders in which a prompt is judged: A in slot 1, then B."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both judgments of one prompt and what they come to."""

    prompt_id: str
    first: Scores | None
    """Scores (A, B) of the judgment with A in slot 1; None where the reply could not be read."""
    swapped: Scores | None
    """Scores (A, B) of the judgment with B in slot 1, already put back in this order; or None."""
    outcome: Outcome | None
    """None where a judgment is missing: such a prompt is a failure, never a tie."""
    flipped: bool
    """The two orders name different winners: the judge followed the slot, not the answer."""
    failure: str | None
    """Why there is no outcome; None where there is one."""
    category: str | None = None


def in_both_orders(a: T, b: T) -> tuple[tuple[str, T, T], tuple[str, T, T]]:
    """Return, for each order, its name and what stands in slot 1 and in slot 2."""
    return (FIRST, a, b), (SWAPPED, b, a)


def winner(scores: Scores) -> int:
    """Return 1 where A has the higher score, -1 where B has, 0 at a draw."""
    a, b = scores
    return (a > b) - (a < b)


def paper_rule(first: int, swapped: int) -> Outcome:
    """Win: two wins, or a win and a draw. Tie: two draws, or a win and a loss (arXiv 2307.08701, 4.2)."""
    balance = first + swapped
    return "win" if balance > 0 else "lose" if balance < 0 else "tie"


def mt_bench_rule(first: int, swapped: int) -> Outcome:
    """Any disagreement between the orders is a tie (FastChat, llm_judge, pairwise mode)."""
    return paper_rule(first, swapped) if first == swapped else "tie"


RULES: dict[str, Rule] = {"paper": paper_rule, "mt-bench": mt_bench_rule}


def decide(
    prompt_id: str,
    first: Scores | None,
    swapped: Scores | None,
    rule: str = "paper",
    *,
    failure: str | None = None,
    category: str | None = None,
) -> Verdict:
    """Return the verdict of two judgments; both pairs of scores are in the order (A, B).

    Where one is None the verdict is a failure with the given reason, or one that names the order.
    Raises UserError for an unknown rule, and ValueError for a reason given beside two readable judgments.

    >>> decide("koala_1", first=(8, 6), swapped=(9, 9)).outcome
    'win'
    >>> decide("koala_1", first=(8, 9), swapped=(9, 8)).flipped
    True
    """
    if rule not in RULES:
        raise UserError(f'Unknown rule "{rule}".{nearest(rule, RULES)}')
    if first is None or swapped is None:
        reason = failure or _missing(first, swapped)
        return Verdict(prompt_id, first, swapped, None, False, reason, category)
    if failure is not None:
        raise ValueError(f'"{failure}" is given as failure of {prompt_id}, but both judgments were read')
    winners = winner(first), winner(swapped)
    return Verdict(
        prompt_id=prompt_id,
        first=first,
        swapped=swapped,
        outcome=RULES[rule](*winners),
        flipped=winners[0] * winners[1] < 0,
        failure=None,
        category=category,
    )


def decide_judged(
    prompt_id: str,
    judged: Mapping[str, Mapping[str, Any]],
    rule: str = "paper",
    *,
    failure: str | None = None,
    category: str | None = None,
) -> Verdict:
    """Return the verdict of judged rows by order, each with its scores by slot, or with its failure.

    `failure` is why a prompt could not be judged, where that is known; see decide for the rest.
    """
    rows = [judged.get(order, {}) for order in (FIRST, SWAPPED)]
    first, swapped = (row.get("scores") for row in rows)
    return decide(
        prompt_id,
        (first[0], first[1]) if first else None,
        (swapped[1], swapped[0]) if swapped else None,
        rule,
        failure=failure or next((row["failure"] for row in rows if row.get("failure")), None),
        category=category,
    )


def _missing(first: Scores | None, swapped: Scores | None) -> str:
    if first is None and swapped is None:
        return "no judgment in either order"
    return "no judgment in the first order" if first is None else "no judgment in the swapped order"
