"""Each pair is judged in both orders, and what cannot be paired is a failure."""

from __future__ import annotations

import random
from typing import Any

import pytest

from alpagasus_ray.compare.pairing import Answers, pair, verdict_rows
from alpagasus_ray.corpus.answers import Answer
from alpagasus_ray.errors import UserError


def answers(model: str, **testsets: dict[str, str]) -> Answers:
    """Return answers by test set and id; the question and the category follow from the id."""
    return {
        testset: {
            id: Answer(id, model, f"Question {id}?", f"category of {id}", text, "stop")
            for id, text in texts.items()
        }
        for testset, texts in testsets.items()
    }


A = answers("a", koala={"1": "a1", "2": "a2"}, vicuna={"1": "a3"})
B = answers("b", koala={"1": "b1", "2": "b2"}, vicuna={"1": "b3"})


def judged(row: dict[str, Any], scores: list[float] | None, failure: str | None = None) -> dict[str, Any]:
    passed_on = {name: row[name] for name in ("testset", "prompt_id", "order")}
    return {**passed_on, "scores": scores, "failure": failure, "text": f"{scores} for {row['order']}"}


def test_each_pair_is_asked_in_both_orders() -> None:
    rows = [row for row in pair(A, B).rows if (row["testset"], row["prompt_id"]) == ("koala", "1")]
    assert rows == [
        {
            "testset": "koala",
            "prompt_id": "1",
            "order": order,
            "question": "Question 1?",
            "answer_1": one,
            "answer_2": two,
        }
        for order, one, two in (("first", "a1", "b1"), ("swapped", "b1", "a1"))
    ]


def test_every_prompt_of_every_test_set_is_asked_twice() -> None:
    pairing = pair(A, B)
    assert len(pairing.rows) == 6
    keys = {(row["testset"], row["prompt_id"], row["order"]) for row in pairing.rows}
    assert len(keys) == 6
    assert pairing.unpaired == {}


def test_the_order_of_the_rows_is_fixed() -> None:
    turned = {
        name: dict(reversed(list(of_testset.items()))) for name, of_testset in reversed(list(A.items()))
    }
    assert pair(turned, B).rows == pair(A, B).rows


def test_swapped_scores_are_put_back() -> None:
    pairing = pair(A, B)
    # The judge likes whatever a model A wrote: 8 to 6, in whichever slot it stands.
    out = [judged(row, [8.0, 6.0] if row["order"] == "first" else [6.0, 8.0]) for row in pairing.rows]
    verdicts = verdict_rows(pairing, out, "paper")
    assert {name: len(of_testset) for name, of_testset in verdicts.items()} == {"koala": 2, "vicuna": 1}
    for of_testset in verdicts.values():
        for verdict, texts in of_testset:
            assert (verdict.first, verdict.swapped) == ((8.0, 6.0), (8.0, 6.0))
            assert (verdict.outcome, verdict.flipped, verdict.failure) == ("win", False, None)
            assert texts == {
                "first_text": "[8.0, 6.0] for first",
                "swapped_text": "[6.0, 8.0] for swapped",
            }


def test_a_judge_that_follows_the_slot_gives_a_tie_that_is_known_as_a_flip() -> None:
    pairing = pair(A, B)
    verdicts = verdict_rows(pairing, [judged(row, [8.0, 6.0]) for row in pairing.rows], "paper")
    assert [(one.outcome, one.flipped) for one, _ in verdicts["koala"]] == [("tie", True)] * 2


def test_replies_may_come_in_any_order() -> None:
    pairing = pair(A, B)
    dice = random.Random(0)
    out = [judged(row, [float(dice.randint(1, 10)), float(dice.randint(1, 10))]) for row in pairing.rows]
    assert verdict_rows(pairing, dice.sample(out, len(out)), "paper") == verdict_rows(pairing, out, "paper")


def test_the_rule_by_name_is_applied() -> None:
    pairing = pair(A, B)
    out = [judged(row, [8.0, 6.0] if row["order"] == "first" else [7.0, 7.0]) for row in pairing.rows]
    assert verdict_rows(pairing, out, "paper")["vicuna"][0][0].outcome == "win"
    assert verdict_rows(pairing, out, "mt-bench")["vicuna"][0][0].outcome == "tie"


def test_categories_reach_the_verdicts() -> None:
    pairing = pair(A, B)
    verdicts = verdict_rows(pairing, [judged(row, [8.0, 6.0]) for row in pairing.rows], "paper")
    assert [verdict.category for verdict, _ in verdicts["koala"]] == ["category of 1", "category of 2"]


@pytest.mark.parametrize(("order", "other"), [("first", "swapped"), ("swapped", "first")])
def test_one_unreadable_order_makes_a_failure_and_no_tie(order: str, other: str) -> None:
    pairing = pair(A, B)
    out = [
        judged(row, None, "unreadable: several scores") if row["order"] == order else judged(row, [8.0, 6.0])
        for row in pairing.rows
    ]
    for verdict, texts in verdict_rows(pairing, out, "paper")["koala"]:
        assert (verdict.outcome, verdict.failure) == (None, "unreadable: several scores")
        assert texts[f"{other}_text"] is not None


def test_a_judgment_that_never_came_makes_a_failure() -> None:
    pairing = pair(A, B)
    out = [judged(row, [8.0, 6.0]) for row in pairing.rows if row["order"] == "first"]
    for verdict, texts in verdict_rows(pairing, out, "paper")["koala"]:
        assert verdict.outcome is None
        assert verdict.failure
        assert texts["swapped_text"] is None


@pytest.mark.parametrize(
    ("a", "b", "missing"),
    [
        ({"1": "a1", "2": "a2"}, {"1": "b1"}, "no answer of model B"),
        ({"1": "a1"}, {"1": "b1", "2": "b2"}, "no answer of model A"),
    ],
)
def test_an_answer_without_its_pair_is_a_failure_and_is_not_asked(
    a: dict[str, str], b: dict[str, str], missing: str
) -> None:
    pairing = pair(answers("a", koala=a), answers("b", koala=b))
    assert {row["prompt_id"] for row in pairing.rows} == {"1"}
    verdicts = verdict_rows(pairing, [judged(row, [8.0, 6.0]) for row in pairing.rows], "paper")["koala"]
    assert {one.prompt_id: (one.failure is None, one.failure) for one, _ in verdicts} == {
        "1": (True, None),
        "2": (False, missing),
    }


def test_an_empty_answer_is_an_answer() -> None:
    pairing = pair(answers("a", koala={"1": ""}), answers("b", koala={"1": "b1"}))
    assert len(pairing.rows) == 2
    assert pairing.unpaired == {}


def test_one_id_for_two_prompts_is_refused() -> None:
    other = {"koala": {"1": Answer("1", "b", "Another question?", None, "b1", "stop")}}
    with pytest.raises(UserError, match="koala: the prompt 1"):
        pair(A, other, ["koala"])


def test_a_test_set_that_one_model_lacks_is_named_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"^B has no answers to koala, which A .* with --testsets vicuna"):
        pair(A, answers("b", vicuna={"1": "b3"}))
    with pytest.raises(UserError, match=r"^full has no answers to koala, which nine_k has: have it answer"):
        pair(answers("a", koala={"1": "a1"}), answers("b", vicuna={"1": "b1"}), names=("nine_k", "full"))


def test_only_the_test_sets_that_are_named_are_compared() -> None:
    pairing = pair(A, answers("b", vicuna={"1": "b3"}), ["vicuna"])
    assert {row["testset"] for row in pairing.rows} == {"vicuna"}
    with pytest.raises(UserError, match=r'no model has answers to a test set vicunna.*"vicuna"'):
        pair(A, B, ["vicunna"])


def test_a_category_is_either_models_and_one_that_they_contradict_is_refused() -> None:
    bare = {"koala": {"1": Answer("1", "b", "Question 1?", None, "b1", "stop")}}
    for one, two in ((A, bare), (bare, A)):
        assert pair(one, two, ["koala"]).categories["koala", "1"] == "category of 1"
    other = {"koala": {"1": Answer("1", "b", "Question 1?", "Cooking", "b1", "stop")}}
    with pytest.raises(UserError, match="koala: the prompt 1 has two categories: Cooking and category of 1"):
        pair(A, other, ["koala"])


def test_an_order_that_is_drawn_hangs_on_the_ids_and_the_seed_alone() -> None:
    many = {"koala": {str(n): Answer(str(n), "a", f"Question {n}?", None, "text", "stop") for n in range(40)}}
    turned = {"koala": dict(reversed(list(many["koala"].items())))}
    drawn = list(pair(many, many).drawn(1).categories)
    assert drawn == list(pair(turned, turned).drawn(1).categories)
    assert drawn != list(pair(many, many).drawn(2).categories)
    assert sorted(drawn) == sorted(pair(many, many).categories)
    first = pair(many, many).drawn(1).first(3)
    assert (list(first.categories), len(first.rows)) == (drawn[:3], 6)
