"""What the guard sees in scores, and which judges it complains of."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.grade.guard import MIN_PLANTED, MIN_ROWS, complaint, look, unreadable_complaint
from alpagasus_ray.recipe import GuardSettings

SETTINGS = GuardSettings()
SCORES = st.lists(st.sampled_from([0.0, 3.5, 4.0, 4.5, 5.0]), max_size=60)
CHATGPT = {2.5: 172, 3.0: 1550, 3.5: 10811, 4.0: 30240, 4.5: 9218, 5.0: 11}
"""Published: arXiv 2307.08701, figure 3 (all below 3 as 2.5)."""


def scores_of(histogram: dict[float, int]) -> list[float]:
    return [score for score, count in histogram.items() for _ in range(count)]


def sound(count: int) -> list[float]:
    """Scores that nobody complains of."""
    return [3.5 + 0.5 * (place % 3) for place in range(count)]


def test_the_published_judge_passes_with_a_margin() -> None:
    seen = look(scores_of(CHATGPT))
    assert (seen.mode, seen.num_distinct) == (4.0, 6)
    assert seen.mode_share == pytest.approx(0.5815, abs=1e-4)
    assert seen.entropy_bits == pytest.approx(1.5493, abs=1e-4)
    assert seen.best_two_share == pytest.approx(9229 / 52002)
    assert complaint(seen, SETTINGS) is None


def test_no_pilot_of_the_published_judge_is_complained_of() -> None:
    scores = scores_of(CHATGPT)
    for seed in range(200):
        pilot = random.Random(seed).sample(scores, SETTINGS.pilot_rows)
        assert complaint(look(pilot), SETTINGS) is None


def test_a_judge_that_gives_nearly_everything_the_same_score_is_complained_of() -> None:
    line = complaint(look([4.5] * 192 + [4.0] * 4 + [5.0] * 4), SETTINGS)
    assert line is not None and "\n" not in line
    assert "96 % of 200 rows the same score (4.5)" in line
    assert "another judge or rubric" in line


def test_two_scores_of_which_one_is_rare_are_too_few() -> None:
    seen = look([4.5] * 892 + [4.0] * 108)
    line = complaint(seen, SETTINGS)
    assert seen.mode_share < SETTINGS.max_mode_share
    assert line is not None and "0.49 bits" in line and "2 different scores" in line


@pytest.mark.parametrize(
    ("lower", "equal", "higher", "says"),
    [
        (20, 0, 0, None),
        (12, 4, 4, None),  # 14 of 20
        (10, 6, 4, "20 outputs that were spoilt on purpose below the sound ones 65 % of the time"),
        (0, 20, 0, "50 % of the time"),
        (0, 0, 20, " 0 % of the time"),
        (0, 0, MIN_PLANTED - 1, None),
        (0, 0, 0, None),
    ],
)
def test_a_judge_that_does_not_mind_spoilt_outputs_is_complained_of(
    lower: int, equal: int, higher: int, says: str | None
) -> None:
    pairs = [(4.0, 3.0)] * lower + [(4.0, 4.0)] * equal + [(4.0, 4.5)] * higher
    line = complaint(look(sound(100), pairs), SETTINGS)
    assert line is None if says is None else line is not None and says in line


def test_dice_are_found_out() -> None:
    """Their scores look as varied as a judge's; only the planted rows tell."""
    found = 0
    for seed in range(100):
        dice = random.Random(seed)

        def throw(dice: random.Random = dice) -> float:
            return dice.choice([3.0, 3.5, 4.0, 4.0, 4.5])

        pairs = [(throw(), throw()) for _ in range(SETTINGS.planted_rows)]
        line = complaint(look([throw() for _ in range(200)], pairs), SETTINGS)
        found += line is not None and "spoilt" in line
    assert found >= 97


def test_nothing_is_said_of_a_handful_of_rows() -> None:
    assert complaint(look([4.5] * (MIN_ROWS - 1)), SETTINGS) is None
    assert complaint(look([4.5] * MIN_ROWS), SETTINGS) is not None
    assert complaint(look([]), SETTINGS) is None


def test_the_bounds_are_the_settings() -> None:
    seen = look(scores_of(CHATGPT), [(4.0, 3.0)] * 15 + [(4.0, 4.5)] * 5)
    assert complaint(seen, SETTINGS) is None
    for strict in ({"max_mode_share": 0.5}, {"min_entropy_bits": 1.6}, {"min_planted_agreement": 0.8}):
        assert complaint(seen, SETTINGS.model_copy(update=strict)) is not None


@given(SCORES)
def test_entropy_lies_between_one_score_and_all_equally_often(scores: list[float]) -> None:
    seen = look(scores)
    assert -1e-12 <= seen.entropy_bits <= math.log2(max(seen.num_distinct, 1)) + 1e-12
    assert (seen.entropy_bits == 0) == (seen.num_distinct <= 1)
    assert look([4.0, 4.5] * 10).entropy_bits == pytest.approx(1.0)


@given(SCORES, st.randoms())
def test_the_order_of_the_scores_does_not_matter(scores: list[float], r: random.Random) -> None:
    one, other = look(scores), look(r.sample(scores, len(scores)))
    assert one.entropy_bits == pytest.approx(other.entropy_bits)
    assert (one.mode, one.mode_share, one.best_two_share) == (
        other.mode,
        other.mode_share,
        other.best_two_share,
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_turned_round_agreement_is_the_rest(pairs: list[tuple[int, int]]) -> None:
    agreement = look([], pairs).planted_agreement
    turned = look([], [(spoilt, own) for own, spoilt in pairs]).planted_agreement
    assert agreement is not None and turned is not None
    assert agreement + turned == pytest.approx(1.0)


def test_replies_without_a_score_are_complained_of_when_they_are_most() -> None:
    assert unreadable_complaint({}, 240) is None
    assert unreadable_complaint({"unreadable: no score": 120}, 240) is None
    assert unreadable_complaint({"unreadable: no score": MIN_ROWS - 1}, MIN_ROWS - 1) is None
    line = unreadable_complaint({"unreadable: no score": 130, "unreadable: several scores": 9}, 240)
    assert line is not None and line.startswith("139 of the judge's first 240 replies")
    assert "(mostly: unreadable: no score)" in line
