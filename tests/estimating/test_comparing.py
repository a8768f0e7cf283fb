"""Comparing: as many calls as compare makes, and the flips to the stronger judge at his own price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.asking import rubric_of
from alpagasus_ray.compare.pairing import pair
from alpagasus_ray.compare.verdicts import decide
from alpagasus_ray.corpus.answers import Answer
from alpagasus_ray.estimating.comparing import ASSUMED_FLIPS, comparing
from alpagasus_ray.estimating.estimate import estimate
from alpagasus_ray.estimating.forecasts import Forecast
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.llm.prices import LIST_PRICES
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.recipe import Recipe
from tests.estimating.recipes import settings_with, write_prompts

PAIRS = [["a", "b"], ["a", "c"], ["b", "c"]]


def recipe_of(folder: Path, **compare: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "generate": {"testsets": [write_prompts(folder)], "max_new_tokens": 1_000},
            "compare": {"model": "gpt-4-0613", "pairs": PAIRS, **compare},
        }
    )


def text(made: Forecast) -> str:
    return "\n".join(f"{name}: {value}" for name, value in made.lines())


def test_both_orders_of_each_pair_are_compared(run: RunDirectory, data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    sections = {"generate": recipe.generate, "compare": recipe.compare}
    _, made = estimate(run, settings_with(data, **sections)).stages
    assert (made.stage, made.calls, made.max_calls, made.calls_in_ledger) == ("compare", 60, 60, None)
    assert made.completion_tokens == 60 * 190
    assert made.cost_usd is not None
    assert made.max_cost_usd is not None
    assert made.max_cost_usd > (60 * 2 * 1_000 * 30 + 60 * 256 * 60) / 1e6 > made.cost_usd


@pytest.mark.parametrize("delimit", [False, True])
def test_but_for_the_answers_the_prompts_are_those_that_compare_sends(tmp_path: Path, delimit: bool) -> None:
    recipe = recipe_of(tmp_path, delimit=delimit, pairs=PAIRS[:1])
    (made,) = comparing(recipe, 0)
    empty = {str(i): Answer(str(i), "a", f"Why is {i} odd?", None, "", "stop") for i in range(10)}
    answers = {"prompts": empty}
    counter, rubric = token_counter("gpt-4-0613"), rubric_of(recipe.compare)
    requests = [request_of(row, rubric, recipe.compare) for row in pair(answers, answers).rows]
    assert made.calls == len(requests)
    assert made.prompt_tokens == round(sum(counter.count(request) for request in requests))
    (with_answers,) = comparing(recipe, 50)
    assert with_answers.prompt_tokens == pytest.approx(made.prompt_tokens + 20 * 2 * 50, abs=1)


def test_only_the_test_sets_that_are_compared_count(tmp_path: Path) -> None:
    testsets = [write_prompts(tmp_path, 10), write_prompts(tmp_path, 7, "further")]
    recipe = recipe_of(tmp_path, pairs=PAIRS[:1], testsets=["further"])
    both = recipe.generate.model_copy(update={"testsets": testsets})
    (made,) = comparing(recipe.model_copy(update={"generate": both}), 60)
    assert made.calls == 2 * 7


def test_no_answer_is_longer_than_it_may_be(tmp_path: Path) -> None:
    (longest,) = comparing(recipe_of(tmp_path), 1_000)
    assert comparing(recipe_of(tmp_path), 5_000) == [longest]


def test_recorded_reviews_cost_nothing(tmp_path: Path) -> None:
    (made,) = comparing(recipe_of(tmp_path, import_reviews=["a-b-prompts.json"]), 60)
    assert (made.calls, made.cost_usd, made.max_cost_usd) == (0, 0, 0)


def test_flips_go_to_the_stronger_judge_in_both_orders_at_his_price(tmp_path: Path) -> None:
    alone = comparing(recipe_of(tmp_path), 60)
    first, stronger = comparing(recipe_of(tmp_path, escalate="gpt-4o"), 60)
    assert [first] == alone
    assert (stronger.stage, stronger.model) == ("escalate", "gpt-4o")
    # 3 pairs and 10 prompts are 30 verdicts, of which 12 flip.
    assert (stronger.calls, stronger.max_calls) == (2 * 12, 2 * 30)
    assert (stronger.completion_tokens, stronger.max_completion_tokens) == (24 * 190, 60 * 256)
    assert "calls: 24 (40 % of 30 verdicts assumed to flip), 60 at most" in text(stronger)
    price = LIST_PRICES["openai"]["gpt-4o"]
    assert stronger.cost_usd == pytest.approx(price.cost_usd(stronger.prompt_tokens, 24 * 190), rel=1e-3)
    assert stronger.prompt_tokens == pytest.approx(first.prompt_tokens * 24 / 60, abs=1)


def test_at_most_every_prompt_flips(tmp_path: Path) -> None:
    """Both judges at one price: then the stronger one costs at most what the first one does."""
    first, stronger = comparing(recipe_of(tmp_path, model="gpt-4o-2024-08-06", escalate="gpt-4o"), 60)
    assert stronger.max_cost_usd == first.max_cost_usd
    assert stronger.cost_usd is not None and first.cost_usd is not None
    assert stronger.cost_usd == pytest.approx(first.cost_usd * 24 / 60)


def test_a_stronger_judge_without_a_price_is_said_to_have_none(tmp_path: Path) -> None:
    _, stronger = comparing(recipe_of(tmp_path, escalate="mine"), 60)
    assert stronger.cost_usd is None
    assert "cost: the price of mine is not known: --set 'prices={mine:" in text(stronger)


def test_nothing_is_compared_without_pairs_or_test_sets(tmp_path: Path) -> None:
    assert comparing(recipe_of(tmp_path, pairs=[], escalate="gpt-4o"), 60) == []
    assert comparing(Recipe(compare=recipe_of(tmp_path).compare), 60) == []


def test_the_share_of_flips_is_that_of_recorded_reviews(shared_data: Path) -> None:
    verdicts = []
    for name in ("koala", "vicuna"):
        # One file has the second model in the first slot, the other one the first.
        files = [f"alpaca2-alpagasus2-{name}.json", f"alpagasus2-alpaca2-{name}.json"]
        both = [json.loads((shared_data / "recorded" / file).read_text()) for file in files]
        for one, other in zip(*both, strict=True):
            first, swapped = other["score"], one["score"]
            verdicts.append(decide("", (first[0], first[1]), (swapped[1], swapped[0])))
    flips, ties = sum(one.flipped for one in verdicts), sum(one.outcome == "tie" for one in verdicts)
    assert (len(verdicts), flips, ties) == (260, 105, 109)
    assert round(flips / 260, 2) == ASSUMED_FLIPS
