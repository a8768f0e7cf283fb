"""A file of recorded reviews becomes the run's reviews: nothing asked, nothing shifted, nothing silent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import plain_console
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.errors import UserError
from alpagasus_ray.grade.importing import import_reviews
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.manifests import Manifest
from alpagasus_ray.pipeline import Pipeline
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CorpusSettings, Recipe
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.select.selecting import select

ROWS: list[Any] = [
    {"instruction": "Name a fruit.", "input": "", "output": "An apple."},
    {"instruction": "Say nothing.", "input": "", "output": ""},
    {"instruction": "Add.", "input": "two and three", "output": "Five."},
    {"instruction": "Name a colour.", "output": "Blue."},
    {"instruction": "Name a fruit.", "input": "", "output": "An apple."},
]


def shown(row: dict[str, str]) -> str:
    return (
        f"###Instruction:\n{row['instruction']}\n\n### Input:\n{row.get('input', '')}\n\n"
        f"### Response:\n{row['output']}\n\n"
    )


class Bench:
    """A run with a corpus, and files of reviews beside it."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        self.run, self._folder = run, folder

    def corpus(self, rows: list[Any]) -> None:
        path = self.write(rows, "data.json")
        commit_corpus(self.run, CorpusSettings(data=path), plain_console())

    def write(self, content: Any, name: str = "reviews.json") -> str:
        path = self._folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def recipe(self, path: str, **grade: Any) -> Recipe:
        arms = {"filtered": {"selector": "threshold", "threshold": 4.5}}
        return parse_recipe({"grade": {"import_reviews": path, "model": "chatgpt", **grade}, "arms": arms})

    def grade(self, path: str, **grade: Any) -> Manifest:
        recipe = self.recipe(path, **grade)
        return import_reviews(self.run, recipe, load_rubrics(recipe.grade)[0], plain_console())

    def reviews(self, judge: str = "chatgpt") -> list[tuple[float | None, str | None]]:
        table = self.run.read_tables(self.run.reviews("accuracy", judge)).to_pylist()
        return [(row["score"], row["failure"]) for row in table]


@pytest.fixture
def bench(run: RunDirectory, tmp_path: Path) -> Bench:
    bench = Bench(run, tmp_path)
    bench.corpus(ROWS)
    return bench


def complaint(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reviews_of(*scores: float) -> list[dict[str, Any]]:
    """The originals' form, in another order than the data's."""
    rows = [ROWS[0], ROWS[2], ROWS[3]]
    made = [
        {"triplet": shown(row), "review": f"{score}\nWhy."} for row, score in zip(rows, scores, strict=False)
    ]
    return made[::-1]


def test_every_row_has_its_own_review_or_the_reason_why_not(bench: Bench) -> None:
    manifest = bench.grade(bench.write(reviews_of(4.5, 3.5)))
    assert bench.reviews() == [
        (4.5, None),
        (3.5, None),
        (None, "not graded: no review of it in the imported file"),
        (None, "set aside: output is empty"),
    ]
    assert manifest.failures == {"not graded": 1, "set aside: output is empty": 1}
    assert (manifest.counts["reviews"], manifest.counts["scored"], manifest.counts["asked"]) == (4, 2, 0)
    assert manifest.cost_usd == 0.0


def test_an_arm_is_made_of_imported_scores_as_of_any(bench: Bench) -> None:
    path = bench.write(reviews_of(4.5, 3.5, 5))
    bench.grade(path)
    select(bench.run, bench.recipe(path), "filtered", plain_console())
    kept = json.loads(bench.run.read_text(f"{bench.run.arm('filtered')}/train.json"))
    assert kept == [ROWS[0], ROWS[3], ROWS[4]]


def test_what_does_not_fit_is_told_in_a_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    reviews = reviews_of(4.5, 3.5, 4)
    reviews[0]["score"] = -1
    reviews += [{**reviews[1], "review": "2"}, {"triplet": "of another file", "review": "4"}, "junk"]
    path = bench.write(reviews)
    counts = bench.grade(path).counts
    assert (counts["in_file"], counts["unmatched"], counts["conflicting"], counts["disagreeing"]) == (
        6,
        2,
        1,
        1,
    )
    said = capsys.readouterr().err
    assert "grade: 3 of 4 rows scored by chatgpt, imported from reviews.json" in said
    assert "of 6 reviews in reviews.json: 2 belong to no row of the data; 1 differ from" in said
    bench.grade(path)
    assert capsys.readouterr().err == said


def test_a_file_without_surprises_has_no_second_line(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.grade(bench.write(reviews_of(4.5, 3.5, 4)))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_files_content_counts_and_not_its_name(bench: Bench) -> None:
    first = bench.grade(bench.write(reviews_of(4.5, 3.5)))
    assert bench.grade(bench.write(reviews_of(4.5, 3.5), "renamed.json")) == first
    other = bench.grade(bench.write(reviews_of(4.5, 3)))
    assert other.content != first.content
    assert bench.reviews()[1] == (3.0, None)


def test_each_judge_has_its_own_reviews(bench: Bench) -> None:
    bench.grade(bench.write(reviews_of(4.5, 3.5)))
    bench.grade(bench.write(reviews_of(2, 3), "claude.json"), model="claude")
    assert [score for score, _ in bench.reviews()[:2]] == [4.5, 3.5]
    assert [score for score, _ in bench.reviews("claude")[:2]] == [2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('[{"triplet": "x", "review": "4"},\n {"triplet": "y", "rev', "reviews.json, line 2, column "),
        ('{"triplet": "x"}', "none of its 1 rows is a review"),
        ("[]", "holds no rows"),
        ('[{"triplet": "x", "review": "4"}]', "none of its 1 rows is a review"),
        ('[{"instruction": "Name a fruit.", "output": "An apple."}]', "none of its 1 rows is a review"),
    ],
)
def test_a_file_that_is_no_list_of_reviews_is_told_and_old_reviews_stand(
    bench: Bench, content: str, says: str
) -> None:
    bench.grade(bench.write(reviews_of(4.5, 3.5), "before.json"))
    before = bench.reviews()
    assert says in complaint(lambda: bench.grade(bench.write(content)))
    assert bench.reviews() == before
    assert bench.run.manifest(bench.run.reviews("accuracy", "chatgpt")) is not None


def test_a_missing_file_is_told(bench: Bench) -> None:
    assert complaint(lambda: bench.grade("gone.json")) == "--import-reviews gone.json: no such file"


def test_the_pipeline_imports_without_ray_and_without_a_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    recipe = bench.recipe(bench.write(reviews_of(4.5, 3.5)))
    with RaySession() as session:
        Pipeline(bench.run, recipe, session, plain_console()).grade()
        manifest = bench.run.require(bench.run.reviews("accuracy", "chatgpt"), "grade")
        assert manifest.counts["scored"] == 2
        assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    plan = Pipeline(bench.run, recipe, session, plain_console()).plan()
    assert any("imported from" in step and "chatgpt" in step for step in plan)


def collapsed(bench: Bench) -> str:
    rows = [{"instruction": f"Name {number}.", "input": "", "output": f"{number}."} for number in range(50)]
    bench.corpus(rows)
    return bench.write([{"triplet": row, "score": 4.5} for row in rows])


def test_scores_that_cannot_select_are_pointed_out(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = bench.grade(collapsed(bench))
    assert "100 % of 50 rows the same score (4.5)" in manifest.details["guard"]["complaint"]
    assert "100 % of 50 rows the same score (4.5)" in capsys.readouterr().err


def test_scores_that_cannot_select_stop_a_run_that_wants_it(bench: Bench) -> None:
    path = collapsed(bench)
    assert "grade.guard.action=warn" in complaint(lambda: bench.grade(path, guard={"action": "stop"}))
    assert bench.run.manifest(bench.run.reviews("accuracy", "chatgpt")) is None
    assert "guard" not in bench.grade(path, guard={"action": "off"}).details


def test_real_rows_find_their_reviews_in_every_form(bench: Bench, shared_data: Path) -> None:
    """Every row of the published samples, its review recorded as the published code records it."""
    for name in ("random_9k.json", "dolly_3k.json"):
        rows = json.loads((shared_data / name).read_text(encoding="utf-8"))
        bench.corpus(rows)
        scores = [(len(row["output"]) % 11) / 2 for row in rows]
        reviews = [{"triplet": shown(r), "review": f"{s}\n."} for r, s in zip(rows, scores, strict=True)]
        counts = bench.grade(bench.write(reviews[::-1])).counts
        by_id = {
            row["triplet_id"]: row["score"]
            for row in bench.run.read_tables(bench.run.reviews("accuracy", "chatgpt")).to_pylist()
        }
        triplets = bench.run.read_tables(bench.run.triplets).to_pylist()
        found = [by_id[row["id"]] == scores[row["position"]] for row in triplets]
        assert all(found), f"{found.count(False)} of {len(found)} rows of {name}"
        rejected = len(rows) - len(triplets)
        assert counts["unmatched"] == rejected
