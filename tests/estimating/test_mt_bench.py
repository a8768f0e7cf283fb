"""MT-Bench: every call that the judge would get is forecast, with what its prompt holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.estimating.forecasts import Forecast
from alpagasus_ray.estimating.mt_bench import mt_bench
from alpagasus_ray.llm.prices import LIST_PRICES
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.mt_bench.rows import TURNS
from alpagasus_ray.recipe import Recipe
from tests.mt_bench.files import QUESTIONS, write_answers, write_questions, write_references

ARMS = {"full": {"selector": "full"}, "filtered": {"selector": "threshold", "threshold": 4.5}}
NUM_QUESTIONS = len(QUESTIONS)
NUM_WITH_REFERENCE = sum(one.wants_reference for one in QUESTIONS)


def recipe_of(folder: Path, **section: Any) -> Recipe:
    files = {"questions": write_questions(folder), "references": write_references(folder)}
    return Recipe.model_validate({"arms": ARMS, "mt_bench": {"model": "gpt-4o", **files, **section}})


def forecast_of(run: RunDirectory, folder: Path, answer_tokens: float = 0, **section: Any) -> Forecast:
    made = mt_bench(run, recipe_of(folder, **section), answer_tokens)
    assert made is not None
    return made


def test_a_recipe_without_the_section_asks_nobody(run: RunDirectory) -> None:
    assert mt_bench(run, Recipe(), 60) is None


def test_both_turns_of_every_arm_are_scored(run: RunDirectory, tmp_path: Path) -> None:
    made = forecast_of(run, tmp_path, 60)
    assert (made.stage, made.calls, made.max_calls) == ("mt_bench", 2 * NUM_QUESTIONS * 2, 32)
    assert made.calls_in_ledger is None
    assert (made.completion_tokens, made.max_completion_tokens) == (32 * 130, 32 * 2048)
    assert dict(made.lines())["calls"] == "32 (32 single)"


def test_pairs_are_judged_in_both_turns_and_both_orders(run: RunDirectory, tmp_path: Path) -> None:
    three = write_answers(tmp_path / "base.jsonl", "base", {one.id: ("x", "y") for one in QUESTIONS})
    section: dict[str, Any] = {"mode": ["single", "pairwise"], "answer_files": {"base": three}}
    made = forecast_of(run, tmp_path, 60, **section)
    assert made.calls == 3 * NUM_QUESTIONS * 2 + 3 * NUM_QUESTIONS * 2 * 2
    assert dict(made.lines())["calls"] == "144 (48 single, 96 in pairs)"
    against_one = forecast_of(run, tmp_path, 60, **section, baseline="base")
    assert against_one.calls == 48 + 2 * NUM_QUESTIONS * 2 * 2


def test_dollars_are_those_of_the_judge(run: RunDirectory, tmp_path: Path) -> None:
    made, price = forecast_of(run, tmp_path, 60), LIST_PRICES["openai"]["gpt-4o"]
    assert made.cost_usd == pytest.approx(price.cost_usd(made.prompt_tokens, 32 * 130), rel=1e-3)
    assert forecast_of(run, tmp_path, 60, model="mine").cost_usd is None


@pytest.mark.parametrize(
    ("mode", "answers"),
    [
        ("single", 2 * NUM_QUESTIONS * (1 + 2)),  # the second turn's prompt holds both
        ("pairwise", 2 * NUM_QUESTIONS * (2 + 4)),
    ],
)
def test_answers_that_nobody_has_given_are_as_long_as_the_datas(
    run: RunDirectory, tmp_path: Path, mode: str, answers: int
) -> None:
    without, some, longest, too_long = (
        forecast_of(run, tmp_path, tokens, mode=mode, max_new_tokens=500) for tokens in (0, 100, 500, 900)
    )
    assert some.prompt_tokens - without.prompt_tokens == answers * 100
    assert too_long == longest
    assert some.prompt_tokens_by == "rough: answers as long as the data's outputs"
    price = LIST_PRICES["openai"]["gpt-4o"]
    most = price.cost_usd(longest.prompt_tokens, some.calls * 2048)
    assert some.max_cost_usd == pytest.approx(most, rel=1e-3)


def test_answers_in_a_file_are_counted_as_they_are(run: RunDirectory, tmp_path: Path) -> None:
    """Nothing is assumed then, and a question without an answer is not judged."""
    words = {one.id: ("So it is. " * 30, "And so again. " * 50) for one in QUESTIONS[1:]}
    empty = {one.id: ("", "") for one in QUESTIONS[1:]}
    made, without = (
        forecast_of(
            run,
            tmp_path,
            60,
            arms=["base"],
            answer_files={"base": write_answers(tmp_path / "base.jsonl", "base", texts)},
        )
        for texts in (words, empty)
    )
    counter = token_counter("gpt-4o")
    assert made.calls == without.calls == 2 * (NUM_QUESTIONS - 1)
    first, second = counter.count_text("So it is. " * 30), counter.count_text("And so again. " * 50)
    added = (NUM_QUESTIONS - 1) * (2 * first + second)
    assert made.prompt_tokens - without.prompt_tokens == pytest.approx(added, rel=0.01)
    assert made.prompt_tokens_by == counter.method


def test_in_a_pair_with_a_file_only_the_arms_answers_are_assumed(run: RunDirectory, tmp_path: Path) -> None:
    base = write_answers(tmp_path / "base.jsonl", "base", {one.id: ("x", "y") for one in QUESTIONS})
    section: dict[str, Any] = {"mode": "pairwise", "arms": ["full"], "answer_files": {"base": base}}
    without, some = (forecast_of(run, tmp_path, tokens, **section) for tokens in (0, 100))
    assert some.prompt_tokens - without.prompt_tokens == NUM_QUESTIONS * 2 * (1 + 2) * 100


def test_references_are_paid_for_where_the_judge_sees_them(run: RunDirectory, tmp_path: Path) -> None:
    """In the first turn's prompt its own, in the second's both."""
    text = "Two and two are four, and four and four are eight. " * 20
    maths = {one.id: (text, text) for one in QUESTIONS if one.wants_reference}
    long = write_answers(tmp_path / "long.jsonl", "gpt-4", maths)
    short = write_answers(tmp_path / "short.jsonl", "gpt-4", dict.fromkeys(maths, ("4", "4")))
    made, brief = (forecast_of(run, tmp_path, 60, references=file) for file in (long, short))
    counter = token_counter("gpt-4o")
    a_reference = counter.count_text(text) - counter.count_text("4")
    added = 2 * NUM_WITH_REFERENCE * (1 + 2) * a_reference
    assert made.prompt_tokens - brief.prompt_tokens == pytest.approx(added, rel=0.02)
    assert forecast_of(run, tmp_path, 60, references="none").prompt_tokens < brief.prompt_tokens


def test_the_real_questions_are_near_what_they_hold(
    run: RunDirectory, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "mt_bench"
    files = {
        "questions": str(folder / "question.jsonl"),
        "references": str(folder / "reference_answer.jsonl"),
    }
    made = forecast_of(run, tmp_path, 60, **files)
    assert made.calls == 2 * 80 * len(TURNS)
    assert 300 < made.prompt_tokens / made.calls < 900


def test_what_would_stop_mt_bench_stops_its_estimate(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--references"):
        forecast_of(run, tmp_path, 60, references=None)
    with pytest.raises(UserError, match=r"missing\.jsonl"):
        forecast_of(run, tmp_path, 60, answer_files={"base": str(tmp_path / "missing.jsonl")})
