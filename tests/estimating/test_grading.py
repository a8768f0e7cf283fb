"""Estimates: what is asked is what grading would ask, and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.ingest import KeptRow, ingest
from alpagasus_ray.errors import UserError
from alpagasus_ray.estimating.estimate import estimate
from alpagasus_ray.grade.pilot import Pilot
from alpagasus_ray.judge.providers import account_of
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.recipe import GradeSettings, Recipe
from tests.estimating.recipes import rows, settings_with


def test_the_guards_spoilt_rows_are_asked_about_too(run: RunDirectory, data: Path) -> None:
    without, with_guard = (
        estimate(run, settings_with(data, grade={"guard": guard})).stages[0]
        for guard in ({"action": "off"}, {"action": "warn", "planted_rows": 25})
    )
    assert (without.calls, with_guard.calls, with_guard.calls_to_pay_for) == (100, 125, 125)
    assert with_guard.prompt_tokens == pytest.approx(1.25 * without.prompt_tokens, rel=0.05)


def record(run: RunDirectory, settings: GradeSettings, some: list[dict[str, str]], tokens: int) -> None:
    """Put replies into the ledger, as grading does."""
    ledger = Ledger(f"{run.ledger}/{account_of(settings)}")
    for row in some:
        key = request_of(row, load_rubrics(settings)[0], settings).key
        ledger.record(key, Reply("4.5\nGood.", "stop", 300, tokens))
    ledger.close()


def test_only_rows_that_would_be_asked_are_counted(run: RunDirectory, data: Path) -> None:
    made = estimate(run, settings_with(data))
    assert (made.rows, made.set_aside, made.duplicates) == (102, 3, 2)
    (grading,) = made.stages
    assert (grading.calls, grading.calls_in_ledger, grading.calls_to_pay_for) == (100, 0, 100)
    assert (grading.completion_tokens, grading.max_completion_tokens) == (9_000, 25_600)
    assert grading.completion_tokens_by == "90 a reply assumed"


def test_prompt_tokens_are_those_of_the_requests(run: RunDirectory, data: Path) -> None:
    (grading,) = estimate(run, settings_with(data)).stages
    requests = [request_of(row, load_rubrics(GradeSettings())[0], GradeSettings()) for row in rows(100)]
    counter = token_counter("gpt-4o-mini")
    assert grading.prompt_tokens == round(sum(counter.count(request) for request in requests))


def test_a_sample_tells_the_tokens_of_many_rows(run: RunDirectory, tmp_path: Path) -> None:
    """More rows than are counted one by one; the longer ones stand at the end."""
    many = sorted(rows(12_000), key=lambda row: len(row["output"]))
    path = tmp_path / "many.json"
    path.write_text(json.dumps(many))
    (grading,) = estimate(run, settings_with(path)).stages
    counter = token_counter("gpt-4o-mini")
    exact = sum(
        counter.count(request_of(row, load_rubrics(GradeSettings())[0], GradeSettings())) for row in many
    )
    assert grading.prompt_tokens == pytest.approx(exact, rel=0.005)


def test_what_the_ledger_knows_is_free_and_tells_how_long_replies_are(run: RunDirectory, data: Path) -> None:
    recipe = settings_with(data)
    record(run, recipe.grade, rows(100)[:40], tokens=120)
    (grading,) = estimate(run, recipe).stages
    assert (grading.calls, grading.calls_in_ledger, grading.calls_to_pay_for) == (100, 40, 60)
    assert grading.completion_tokens == 60 * 120
    assert grading.completion_tokens_by == "120 a reply as in the ledger"


def test_a_few_replies_do_not_tell_how_long_replies_are(run: RunDirectory, data: Path) -> None:
    recipe = settings_with(data)
    record(run, recipe.grade, rows(3), tokens=1)
    (grading,) = estimate(run, recipe).stages
    assert (grading.calls_in_ledger, grading.completion_tokens) == (3, 97 * 90)


def test_after_an_edit_only_the_edited_row_and_its_spoilt_twin_are_to_pay_for(
    run: RunDirectory, tmp_path: Path
) -> None:
    """The others' are in the ledger, those that the guard has spoilt included."""
    path = tmp_path / "data.json"
    recipe = settings_with(path, grade={"guard": {"action": "warn"}})
    path.write_text(json.dumps(rows(300)))
    kept = [row.record for row in ingest(rows(300)) if isinstance(row, KeptRow)]
    pilot = Pilot(pa.Table.from_pylist(kept).select(["id", *RUBRICS["accuracy"].fields]), recipe.grade.guard)
    record(run, recipe.grade, [*kept, *pilot.rows.to_pylist()[200:]], tokens=90)
    assert estimate(run, recipe).stages[0].calls_to_pay_for == 0
    path.write_text(json.dumps([{**rows(300)[0], "output": "Another answer."}, *rows(300)[1:]]))
    # Whose twin was spoilt, and with whose output, may change with the row.
    assert 1 <= estimate(run, recipe).stages[0].calls_to_pay_for <= 5


def test_imported_reviews_are_free(run: RunDirectory, data: Path) -> None:
    made = estimate(run, settings_with(data, grade={"import_reviews": "reviews.json"}))
    (grading,) = made.stages
    assert (made.rows, grading.calls, grading.calls_to_pay_for, grading.cost_usd) == (102, 0, 0, 0.0)
    assert "reviews are imported, nobody is asked" in made.to_text()


@pytest.mark.parametrize(
    "other",
    [
        {"model": "gpt-4o"},
        {"base_url": "http://127.0.0.1:9/v1"},
        {"rubric": "helpfulness"},
        {"max_tokens": 9},
    ],
)
def test_another_judges_replies_are_not_taken_for_this_ones(
    run: RunDirectory, data: Path, other: dict[str, Any]
) -> None:
    record(run, settings_with(data).grade, rows(100), tokens=120)
    (grading,) = estimate(run, settings_with(data, grade=other)).stages
    assert grading.calls_in_ledger == 0
    assert grading.completion_tokens <= 100 * settings_with(data, grade=other).grade.max_tokens


def test_nothing_is_written(run: RunDirectory, data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    estimate(run, settings_with(data))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_has_its_rows_needs_no_data(run: RunDirectory, data: Path, console: Console) -> None:
    recipe = settings_with(data)
    commit_corpus(run, recipe.corpus, console)
    data.unlink()
    assert estimate(run, Recipe(grade=recipe.grade)).rows == 102


def test_without_rows_there_is_nothing_to_estimate(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="--data"):
        estimate(run, Recipe())


def test_real_data_are_near_what_openais_tokenizer_counts(run: RunDirectory, shared_data: Path) -> None:
    """9,225 requests have 1,770,501 tokens of o200k_base, chat format included."""
    (grading,) = estimate(run, settings_with(shared_data / "random_9k.json")).stages
    assert grading.calls == 9_225
    assert grading.prompt_tokens == pytest.approx(1_770_501, rel=0.05)
