"""Which rows make an arm: exact counts, fair ties, and no dependence on what should not matter."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.recipe import ArmSettings
from alpagasus_ray.select.selectors import SELECTORS, Candidate, Selection, threshold_for_share

calmly = settings(deadline=None, derandomize=True, max_examples=60)
SCORES = st.none() | st.sampled_from([0.0, 3.5, 4.0, 4.5, 5.0])


@st.composite
def candidate_lists(draw: st.DrawFn, min_size: int = 0) -> list[Candidate]:
    scores = draw(st.lists(SCORES, min_size=min_size, max_size=30))
    return [
        Candidate(position, f"id-{position}", score, None if score is not None else "timeout: late")
        for position, score in enumerate(scores)
    ]


def choose(candidates: list[Candidate], selector: str, **how: Any) -> Selection:
    return SELECTORS[selector](candidates, ArmSettings.model_validate({"selector": selector, **how}))


def ids(candidates: list[Candidate], selection: Selection) -> set[str]:
    return {one.triplet_id for one in candidates if one.position in selection.kept}


EVERY_WAY: list[dict[str, Any]] = [
    {"selector": "full"},
    {"selector": "threshold", "threshold": 4.0},
    {"selector": "top-k", "k": 5},
    {"selector": "random", "count": 5},
]
BY_SHARE: dict[str, Any] = {"selector": "keep-share", "keep_share": 0.3}


@calmly
@given(candidate_lists(), st.sampled_from([*EVERY_WAY, BY_SHARE]))
def test_every_row_is_kept_or_dropped_with_a_reason(candidates: list[Candidate], how: dict[str, Any]) -> None:
    selection = choose(candidates, **how)
    assert selection.kept | set(selection.dropped) == {one.position for one in candidates}
    assert not selection.kept & set(selection.dropped)
    assert all(selection.dropped.values())


@calmly
@given(candidate_lists(), st.sampled_from([*EVERY_WAY, BY_SHARE]), st.randoms())
def test_the_order_of_the_rows_does_not_matter(
    candidates: list[Candidate], how: dict[str, Any], r: random.Random
) -> None:
    assert choose(r.sample(candidates, len(candidates)), **how) == choose(candidates, **how)


@calmly
@given(candidate_lists(), st.sampled_from([*EVERY_WAY[2:], BY_SHARE]), st.randoms(), st.integers(0, 3))
def test_the_rows_places_in_the_file_do_not_matter(
    candidates: list[Candidate], how: dict[str, Any], r: random.Random, seed: int
) -> None:
    places = r.sample(range(len(candidates)), len(candidates))
    moved = [replace(one, position=place) for one, place in zip(candidates, places, strict=True)]
    assert ids(moved, choose(moved, **how, seed=seed)) == ids(
        candidates, choose(candidates, **how, seed=seed)
    )


@calmly
@given(candidate_lists(min_size=1), st.sampled_from(EVERY_WAY), st.data())
def test_an_edited_row_moves_at_most_one_other(
    candidates: list[Candidate], how: dict[str, Any], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(candidates) - 1))
    edited = [*candidates]
    edited[at] = replace(edited[at], triplet_id="edited", score=data.draw(SCORES))
    before, after = ids(candidates, choose(candidates, **how)), ids(edited, choose(edited, **how))
    changed = (before ^ after) - {candidates[at].triplet_id, "edited"}
    assert len(changed) <= (1 if how["selector"] in ("top-k", "random") else 0)


def test_full_keeps_the_ungraded_too() -> None:
    candidates = [Candidate(0, "a", 4.5), Candidate(1, "b", None, "timeout: late")]
    assert choose(candidates, "full") == Selection(frozenset({0, 1}), {})


@calmly
@given(candidate_lists(), st.sampled_from([0.0, 3.5, 4.2, 4.5, 5.5]))
def test_a_threshold_keeps_what_reaches_it(candidates: list[Candidate], threshold: float) -> None:
    kept = choose(candidates, "threshold", threshold=threshold).kept
    assert kept == {one.position for one in candidates if one.score is not None and one.score >= threshold}


def test_an_unscored_row_is_never_taken_for_a_low_score() -> None:
    candidates = [Candidate(0, "a", None, "timeout: late"), Candidate(1, "b", None), Candidate(2, "c", 0.0)]
    assert choose(candidates, "threshold", threshold=0.0) == Selection(
        frozenset({2}), {0: "unscored: timeout: late", 1: "unscored: not graded"}
    )
    assert choose(candidates, "top-k", k=3).kept == {2}
    assert choose([candidates[2], Candidate(3, "d", 3.5)], "threshold", threshold=3.5).dropped == {
        0 + 2: "score below 3.5"
    }


SCORE_LISTS = st.lists(st.sampled_from([-2.0, 0.0, 3.5, 4.0, 4.25, 4.5, 5.0, 87.0]), min_size=1, max_size=30)
SHARES = st.integers(1, 200).map(lambda number: number / 200)


@calmly
@given(SCORE_LISTS, SHARES)
def test_no_threshold_comes_nearer_to_the_share_and_the_stricter_of_two_is_taken(
    scores: list[float], share: float
) -> None:
    def distance(threshold: float) -> Fraction:
        kept = sum(score >= threshold for score in scores)
        return abs(Fraction(kept, len(scores)) - Fraction(str(share)))

    best = min(distance(threshold) for threshold in scores)
    strictest = max(threshold for threshold in scores if distance(threshold) == best)
    assert threshold_for_share(scores, share) == strictest


@calmly
@given(candidate_lists(), SHARES, SHARES)
def test_a_larger_share_keeps_the_rows_of_a_smaller_one(
    candidates: list[Candidate], one: float, other: float
) -> None:
    small, large = (choose(candidates, "keep-share", keep_share=share).kept for share in sorted((one, other)))
    assert small <= large


@calmly
@given(candidate_lists(), SHARES)
def test_a_share_hangs_on_the_order_of_the_scores_and_not_on_the_judges_scale(
    candidates: list[Candidate], share: float
) -> None:
    stretched = [replace(one, score=None if one.score is None else 10 + one.score**3) for one in candidates]
    chosen, other = (choose(rows, "keep-share", keep_share=share) for rows in (candidates, stretched))
    assert chosen.kept == other.kept


@calmly
@given(candidate_lists(), SHARES)
def test_a_share_is_a_threshold_rule_of_the_scored_rows(candidates: list[Candidate], share: float) -> None:
    selection = choose(candidates, "keep-share", keep_share=share)
    if all(one.score is None for one in candidates):
        assert selection.kept == frozenset() and selection.threshold is None
        return
    assert selection.threshold is not None
    by_hand = choose(candidates, "threshold", threshold=selection.threshold)
    assert (selection.kept, selection.dropped) == (by_hand.kept, by_hand.dropped)
    scored = [one for one in candidates if one.score is not None]
    assert choose(scored, "keep-share", keep_share=share).kept == selection.kept


def test_the_published_share_finds_the_published_threshold() -> None:
    """Source: arXiv 2307.08701, figure 3. Of 52,002 rows ChatGPT gave 9,218 4.5 and 11 5."""
    histogram = {2.5: 172, 3.0: 1550, 3.5: 10811, 4.0: 30240, 4.5: 9218, 5.0: 11}
    scores = [score for score, count in histogram.items() for _ in range(count)]
    assert threshold_for_share(scores, 0.1775) == 4.5
    assert threshold_for_share(scores, 0.76) == 4.0


@calmly
@given(candidate_lists(), st.integers(1, 35), st.integers(0, 3))
def test_top_k_keeps_the_k_best(candidates: list[Candidate], k: int, seed: int) -> None:
    kept = choose(candidates, "top-k", k=k, seed=seed).kept
    scored = {one.position: one.score for one in candidates if one.score is not None}
    assert len(kept) == min(k, len(scored))
    left = [score for position, score in scored.items() if position not in kept]
    assert not kept or not left or min(scored[position] for position in kept) >= max(left)


def test_ties_are_drawn_and_not_taken_from_the_top_of_the_file() -> None:
    """Files are often sorted, by topic or by length: their beginning is no fair sample."""
    candidates = [Candidate(number, f"id-{number}", 4.5) for number in range(1000)]
    kept = choose(candidates, "top-k", k=500).kept
    assert 200 < sum(position < 500 for position in kept) < 300
    assert choose(candidates, "top-k", k=500, seed=1).kept != kept


@calmly
@given(candidate_lists(), st.integers(1, 35), st.integers(0, 3))
def test_random_keeps_exactly_so_many(candidates: list[Candidate], count: int, seed: int) -> None:
    kept = choose(candidates, "random", count=count, seed=seed).kept
    assert len(kept) == min(count, len(candidates))
    assert choose(candidates, "random", count=count, seed=seed).kept == kept


@calmly
@given(candidate_lists(), st.integers(1, 10), st.randoms())
def test_random_does_not_look_at_scores(candidates: list[Candidate], count: int, r: random.Random) -> None:
    scores = r.sample([one.score for one in candidates], len(candidates))
    other = [replace(one, score=score) for one, score in zip(candidates, scores, strict=True)]
    assert choose(other, "random", count=count).kept == choose(candidates, "random", count=count).kept


@calmly
@given(candidate_lists(), st.integers(1, 10))
def test_a_smaller_draw_is_part_of_a_larger_one(candidates: list[Candidate], count: int) -> None:
    small, large = (choose(candidates, "random", count=number).kept for number in (count, count + 3))
    assert small <= large


def test_every_row_has_the_same_chance() -> None:
    candidates = [Candidate(number, f"id-{number}", None) for number in range(20)]
    times = [0] * 20
    for seed in range(1000):
        for position in choose(candidates, "random", count=5, seed=seed).kept:
            times[position] += 1
    assert sum(times) == 5000
    assert all(180 < number < 320 for number in times), times  # 250 are expected, the deviation is 14


def test_seeds_draw_independently() -> None:
    candidates = [Candidate(number, f"id-{number}", None) for number in range(1000)]
    draws = [choose(candidates, "random", count=100, seed=seed).kept for seed in range(10)]
    overlaps = [len(one & two) for at, one in enumerate(draws) for two in draws[:at]]
    assert all(overlap < 30 for overlap in overlaps), overlaps  # 10 are expected, the deviation is 2.8


@pytest.mark.parametrize(("selector", "how"), [("random", {"count": 2}), ("top-k", {"k": 2})])
def test_rows_of_the_same_content_are_told_apart_by_their_places(selector: str, how: dict[str, int]) -> None:
    candidates = [Candidate(position, "same", 4.5) for position in range(5)]
    assert len(choose(candidates, selector, **how).kept) == 2
    assert choose(candidates[::-1], selector, **how) == choose(candidates, selector, **how)
