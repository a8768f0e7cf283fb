"""The rules that turn two judgments into a verdict."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.compare.verdicts import RULES, Scores, Verdict, decide
from alpagasus_ray.errors import UserError

A, DRAW, B = (9.0, 8.0), (8.0, 8.0), (7.0, 8.0)
SCORES = st.tuples(st.floats(1, 10), st.floats(1, 10))


@pytest.mark.parametrize(
    ("first", "swapped", "paper", "mt_bench", "flipped"),
    [
        (A, A, "win", "win", False),
        (A, DRAW, "win", "tie", False),
        (DRAW, A, "win", "tie", False),
        (A, B, "tie", "tie", True),
        (B, A, "tie", "tie", True),
        (DRAW, DRAW, "tie", "tie", False),
        (DRAW, B, "lose", "tie", False),
        (B, DRAW, "lose", "tie", False),
        (B, B, "lose", "lose", False),
    ],
)
def test_rules(first: Scores, swapped: Scores, paper: str, mt_bench: str, flipped: bool) -> None:
    by_paper = decide("p", first, swapped, "paper", category="Math")
    assert by_paper == Verdict("p", first, swapped, by_paper.outcome, flipped, None, "Math")
    assert by_paper.outcome == paper
    assert decide("p", first, swapped, "mt-bench").outcome == mt_bench


def test_the_papers_rule_is_the_default() -> None:
    assert decide("p", A, DRAW).outcome == "win"


def test_half_points_count() -> None:
    assert decide("p", (8.5, 8.0), (8.5, 8.0)).outcome == "win"


@pytest.mark.parametrize(
    ("first", "swapped", "failure", "expected"),
    [
        (None, A, "unreadable: several scores", "unreadable: several scores"),
        (None, A, None, "no judgment in the first order"),
        (A, None, None, "no judgment in the swapped order"),
        (None, None, None, "no judgment in either order"),
    ],
)
def test_an_unreadable_side_is_a_failure_and_no_tie(
    first: Scores | None, swapped: Scores | None, failure: str | None, expected: str
) -> None:
    verdict = decide("p", first, swapped, failure=failure, category="Math")
    assert verdict == Verdict("p", first, swapped, None, False, expected, "Math")


def test_an_unknown_rule_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r'"mtbench".*"mt-bench"'):
        decide("p", A, A, "mtbench")


def test_a_failure_beside_two_judgments_is_refused() -> None:
    with pytest.raises(ValueError, match="both judgments were read"):
        decide("p", A, A, failure="timeout")


@settings(deadline=None)
@given(SCORES, SCORES, st.sampled_from(sorted(RULES)))
def test_swapping_the_models_mirrors_the_verdict(first: Scores, swapped: Scores, rule: str) -> None:
    mirror = {"win": "lose", "tie": "tie", "lose": "win"}
    verdict = decide("p", first, swapped, rule)
    mirrored = decide("p", swapped[::-1], first[::-1], rule)
    assert verdict.outcome is not None
    assert mirrored.outcome == mirror[verdict.outcome]
    assert mirrored.flipped == verdict.flipped
