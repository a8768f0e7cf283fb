"""Figures of a judge against people, by hand-counted examples, and what must not change them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.compare.agreement import JudgedPair, accuracy_interval, agreement
from alpagasus_ray.compare.agreement_table import agreement_line, agreement_table
from alpagasus_ray.compare.length_bias import length_bias
from alpagasus_ray.compare.verdicts import Outcome, Scores, decide
from alpagasus_ray.compare.votes import MIRRORED, OUTCOMES, Votes

SAID: dict[Outcome, Scores] = {"win": (8.0, 6.0), "tie": (7.0, 7.0), "lose": (6.0, 8.0)}
PEOPLE = {"win": Votes(1, 0, 0), "tie": Votes(0, 1, 0), "lose": Votes(0, 0, 1)}


def pair(
    votes: Votes,
    first: Outcome | None,
    swapped: Outcome | None = None,
    lengths: tuple[int, int] = (5, 5),
    rule: str = "paper",
) -> JudgedPair:
    """Return a pair that the judge gave these outcomes, for answer A, in the two orders."""
    both = [None if one is None else SAID[one] for one in (first, swapped or first)]
    return JudgedPair(votes, decide("p", both[0], both[1], rule), *lengths)


def table(counts: dict[tuple[Outcome, Outcome], int]) -> list[JudgedPair]:
    """Return single-labelled pairs by (people's label, judge's verdict)."""
    return [pair(PEOPLE[human], judge) for (human, judge), count in counts.items() for _ in range(count)]


def mirrored(one: JudgedPair) -> JudgedPair:
    """Return the pair with its answers exchanged, and what was said of them with it."""
    verdict = one.verdict
    first, swapped = (None if scores is None else scores[::-1] for scores in (verdict.swapped, verdict.first))
    turned = decide("p", first, swapped, failure=verdict.failure)
    return JudgedPair(one.votes.mirrored(), turned, one.length_b, one.length_a)


PAIRS = st.builds(
    pair,
    st.builds(Votes, *[st.integers(0, 3)] * 3),
    st.sampled_from([*OUTCOMES, None]),
    st.sampled_from(OUTCOMES),
    st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
BY_HAND = table(
    {
        ("win", "win"): 30,
        ("win", "lose"): 10,
        ("win", "tie"): 5,
        ("lose", "lose"): 20,
        ("lose", "win"): 10,
        ("tie", "tie"): 10,
        ("tie", "win"): 15,
    }
)


def test_accuracy_kappa_and_confusion_of_a_table_by_hand() -> None:
    """Of 100, 60 right; people 45/25/30, judge 55/15/30: chance 0.45*0.55 + 0.25*0.15 + 0.3*0.3 = 0.375."""
    figures = agreement(BY_HAND)
    assert (figures.n, figures.failures, figures.no_majority) == (100, 0, 0)
    assert figures.accuracy == 0.6
    assert (figures.majority_class, figures.majority_share) == ("win", 0.45)
    assert figures.above_majority_share == pytest.approx(0.15)
    assert figures.kappa == pytest.approx((0.6 - 0.375) / (1 - 0.375))
    assert figures.confusion == {
        "win": {"win": 30, "tie": 5, "lose": 10},
        "tie": {"win": 15, "tie": 10, "lose": 0},
        "lose": {"win": 10, "tie": 0, "lose": 20},
    }


def test_without_ties_only_the_pairs_count_on_which_nobody_says_tie() -> None:
    without = agreement(BY_HAND).without_ties
    assert (without.n, without.accuracy, without.majority_share) == (70, 50 / 70, 40 / 70)


def test_a_judge_that_always_says_the_same_reaches_the_majoritys_share_and_no_kappa() -> None:
    figures = agreement(table({("win", "win"): 70, ("lose", "win"): 30}))
    assert figures.accuracy == figures.majority_share == 0.7
    assert figures.above_majority_share == 0
    assert figures.kappa == 0


def test_pairs_on_which_people_are_split_are_left_out_and_counted() -> None:
    split = [pair(Votes(1, 1, 1), "win"), pair(Votes(1, 0, 1), "win"), pair(Votes(), "win")]
    figures = agreement([*BY_HAND, *split])
    assert (figures.n, figures.no_majority, figures.accuracy) == (100, 3, 0.6)


def test_pairs_without_a_verdict_are_left_out_and_counted_by_reason() -> None:
    failed = JudgedPair(Votes(1, 0, 0), decide("p", None, None, failure="unreadable: no score"), 1, 2)
    figures = agreement([*BY_HAND, failed, failed, pair(Votes(0, 0, 1), None, "win")])
    assert (figures.n, figures.failures, figures.accuracy) == (100, 3, 0.6)
    assert figures.failure_reasons == {"no judgment in the first order": 1, "unreadable: no score": 2}
    assert figures.slots.first_slot_wins + figures.slots.second_slot_wins + figures.slots.draws == 200


def test_the_interval_of_the_accuracy_is_the_binomials() -> None:
    """Wald's interval for 60 of 100 is 0.504 to 0.696."""
    low, high = accuracy_interval(60, 100, num_resamples=20_000, seed=0)
    assert (low, high) == (pytest.approx(0.504, abs=0.015), pytest.approx(0.696, abs=0.015))
    assert accuracy_interval(60, 100, num_resamples=1000, seed=1) == accuracy_interval(
        60, 100, num_resamples=1000, seed=1
    )


def test_where_all_are_right_or_wrong_the_interval_is_the_exact_one() -> None:
    """Clopper and Pearson's for 5 of 5 is 0.478 to 1 (R: binom.test(5, 5))."""
    assert accuracy_interval(5, 5, num_resamples=100, seed=0) == (pytest.approx(0.4782, abs=1e-4), 1.0)
    assert accuracy_interval(0, 5, num_resamples=100, seed=0) == (0.0, pytest.approx(0.5218, abs=1e-4))


def test_the_rule_decides_what_an_order_that_draws_comes_to() -> None:
    by_rule = {
        rule: agreement([pair(Votes(0, 1, 0), "win", "tie", rule=rule)]).accuracy
        for rule in ("paper", "mt-bench")
    }
    assert by_rule == {"paper": 0.0, "mt-bench": 1.0}


def test_people_among_themselves_by_hand() -> None:
    """3-0, 2-1 and one label only: 3 + 1 of 6 pairs of labels agree; 3 + 1 of 6 with the judge."""
    people = agreement(
        [pair(Votes(3, 0, 0), "win"), pair(Votes(2, 0, 1), "lose"), pair(Votes(0, 1, 0), "win")]
    ).people
    assert people.n == 2
    assert people.human_human_agreement == 4 / 6
    assert people.judge_human_agreement == 4 / 6
    # P = (1 + 1/3) / 2; shares 5/6 and 1/6: chance 26/36.
    assert people.fleiss_kappa == pytest.approx((2 / 3 - 26 / 36) / (10 / 36))


def test_one_annotator_says_nothing_of_people_among_themselves() -> None:
    figures = agreement(BY_HAND)
    assert (figures.people.n, figures.people.human_human_agreement, figures.people.fleiss_kappa) == (
        0,
        None,
        None,
    )
    assert (figures.leave_one_out.n, figures.leave_one_out.human) == (0, None)


def test_leave_one_out_by_hand() -> None:
    """Of 2-1, who is left out of the two faces one to one; the third faces two and is wrong."""
    figures = agreement(
        [pair(Votes(3, 0, 0), "win"), pair(Votes(2, 0, 1), "win"), pair(Votes(1, 1, 0), "tie")]
    )
    left_out = figures.leave_one_out
    assert (left_out.n, left_out.no_majority) == (4, 2)
    assert (left_out.human, left_out.judge) == (3 / 4, 1.0)


def test_a_judge_that_follows_the_slot_is_seen_by_it() -> None:
    # In the first order slot 2 holds B, in the swapped one A: always slot 2 is lose, then win.
    slots = agreement([pair(Votes(1, 0, 0), "lose", "win")] * 3 + [pair(Votes(1, 0, 0), "win")]).slots
    assert (slots.first_slot_wins, slots.second_slot_wins, slots.draws) == (1, 7, 0)
    assert (slots.second_slot_share, slots.flips, slots.flip_share) == (7 / 8, 3, 3 / 4)


def test_a_judge_without_a_slot_prefers_none() -> None:
    slots = agreement(BY_HAND).slots
    assert (slots.second_slot_share, slots.flips) == (0.5, 0)
    assert slots.draws == 30


def test_length_bias_by_hand() -> None:
    """Judge: longer three times, a tie; people: longer once, shorter twice, a tie; one of equal lengths."""
    bias = length_bias(
        [
            (9, 1, "win", "win"),
            (9, 1, "lose", "win"),
            (1, 9, "win", "lose"),
            (1, 9, "tie", "tie"),
            (5, 5, "win", "lose"),
        ],
        num_resamples=4000,
        confidence=0.95,
        seed=0,
    )
    assert (bias.n, bias.equal_lengths) == (4, 1)
    assert (bias.judge_longer_share, bias.human_longer_share, bias.difference) == (0.875, 0.375, 0.5)
    assert bias.difference_low == 0.0 and bias.difference_high == 1.0


def test_a_judge_that_counts_letters_is_told_from_people_who_like_long_answers() -> None:
    dice = random.Random(0)
    lengths = [(dice.randrange(1, 99), dice.randrange(100, 200)) for _ in range(400)]
    people: list[Outcome] = ["lose" if dice.random() < 0.6 else "win" for _ in lengths]
    leaning = length_bias(
        [(a, b, human, "lose") for (a, b), human in zip(lengths, people, strict=True)],
        num_resamples=2000,
        confidence=0.95,
        seed=0,
    )
    fair = length_bias(
        [(a, b, human, human) for (a, b), human in zip(lengths, people, strict=True)],
        num_resamples=2000,
        confidence=0.95,
        seed=0,
    )
    assert leaning.difference_low is not None and leaning.difference_low > 0.3
    assert (fair.difference, fair.difference_low, fair.difference_high) == (0, 0, 0)


@given(st.lists(PAIRS, max_size=12))
def test_exchanging_the_answers_of_all_pairs_mirrors_every_figure(pairs: list[JudgedPair]) -> None:
    there = agreement(pairs, num_resamples=200).to_dict()
    turned = agreement([mirrored(one) for one in pairs], num_resamples=200).to_dict()
    there["confusion"] = {
        MIRRORED[human]: {MIRRORED[judge]: count for judge, count in row.items()}
        for human, row in there["confusion"].items()
    }
    there["majority_class"] = there["majority_class"] and MIRRORED[there["majority_class"]]
    for figures in (there, turned):  # which order is missing has another name now
        figures["failure_reasons"] = sum(figures["failure_reasons"].values())
        for name in ("kappa",):
            figures[name] = figures[name] and round(figures[name], 12)
        people = figures["people"]
        people["fleiss_kappa"] = people["fleiss_kappa"] and round(people["fleiss_kappa"], 12)
    assert turned == there


@given(st.lists(PAIRS, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_changes_nothing(pairs: list[JudgedPair], dice: random.Random) -> None:
    there, turned = (
        agreement(each, num_resamples=200).to_dict() for each in (pairs, dice.sample(pairs, len(pairs)))
    )
    for figures in (there, turned):  # sums of fractions in another order
        people = figures["people"]
        people["fleiss_kappa"] = people["fleiss_kappa"] and round(people["fleiss_kappa"], 12)
    assert turned == there


@given(st.lists(PAIRS, max_size=12))
def test_every_pair_is_in_a_figure_or_counted_beside_it(pairs: list[JudgedPair]) -> None:
    figures = agreement(pairs, num_resamples=100)
    assert figures.n + figures.failures + figures.no_majority == len(pairs)
    assert sum(count for row in figures.confusion.values() for count in row.values()) == figures.n
    assert figures.length.n + figures.length.equal_lengths == figures.n
    assert sum(figures.failure_reasons.values()) == figures.failures
    labels = sum(one.votes.total for one in pairs if one.verdict.outcome and one.votes.total >= 3)
    assert figures.leave_one_out.n + figures.leave_one_out.no_majority == labels
    slots = figures.slots
    judgments = slots.first_slot_wins + slots.second_slot_wins + slots.draws
    assert judgments == 2 * (figures.n + figures.no_majority)


def results(pairs: Sequence[JudgedPair]) -> dict[str, object]:
    """Return what agreement.json holds of them, as it is read back."""
    figures = agreement(pairs, num_resamples=100).to_dict()
    written = {
        "judge_model": "judge",
        "rows": 9,
        "set_aside": {"no label": 2},
        "pairs": len(pairs),
        "labels": sum(one.votes.total for one in pairs),
        "rules": {"paper": figures, "mt-bench": figures},
    }
    read: dict[str, object] = json.loads(json.dumps(written))
    return read


def test_the_table_shows_both_rules_and_what_was_left_out() -> None:
    shown = agreement_table(results([*BY_HAND, pair(Votes(1, 0, 0), None)]))
    lines = {line[:40].strip(): line for line in shown.splitlines()}
    assert lines["accuracy against the majority"].count("60.0 % (") == 2
    assert lines["Cohen's kappa with the majority"].count("0.36") == 2
    assert lines["a judge that always says the same"].count("45.0 % (win)") == 2
    assert lines["left out: no verdict of the judge"].split()[-1] == "1"
    assert lines["left out: of equal length"].split()[-1] == "100"
    assert "rows set aside: no label (2)" in shown
    assert "no verdict: no judgment in either order (1)" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_figure_without_a_pair_is_shown_as_none() -> None:
    shown = agreement_table(results([]))
    assert "nan" not in shown and "None" not in shown
    assert shown.count(" -") >= 20
    assert "says what most people say on - pairs" in agreement_line(results([]), "paper")
