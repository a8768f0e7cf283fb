"""An arm on disk: the source's rows to the letter, every other row accounted for, and no luck from chance."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, plain_console
from alpagasus_ray.corpus import committing
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.toyworld import generate_rows, solve
from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.answer_key import AnswerKeyChat
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.judge.scores import READERS
from alpagasus_ray.llm.chat import Request, Sampling
from alpagasus_ray.manifests import Made, Manifest, RowDigest
from alpagasus_ray.recipe import CorpusSettings, Recipe
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.schemas import DROPPED, REVIEWS
from alpagasus_ray.select.selecting import select

Judge = Callable[[Mapping[str, Any]], float | None]
"""Gives a row its score; None: the judge gave none."""
ROWS: list[Any] = [
    {"output": "An apple.", "instruction": "Name a fruit.", "input": "", "id": 7, "meta": {"z": [1.5, None]}},
    {"instruction": "Name a colour.", "input": "", "output": "Blue \u2028\U0001f535.", "big": 2**60},
    {"instruction": "Say nothing.", "input": "", "output": ""},
    {"instruction": "Add.", "input": "two and three", "output": "Five.", "category": "sum"},
    {"instruction": "Say which day is after Friday.", "output": "Saturday."},
    {"instruction": "Name a colour.", "input": "", "output": "Blue \u2028\U0001f535.", "again": True},
]
SCORES = {
    "Name a fruit.": 4.5,
    "Name a colour.": 4.0,
    "Add.": 5.0,
    "Say which day is after Friday.": None,
}


def judge(row: Mapping[str, Any]) -> float | None:
    return SCORES[row["instruction"]]


ARMS = {
    "full": {"selector": "full"},
    "filtered": {"selector": "threshold", "threshold": 4.5},
    "best": {"selector": "top-k", "k": 1},
    "random": {"selector": "random", "same_size_as": "filtered"},
    "three": {"selector": "random", "count": 3},
    "none": {"selector": "threshold", "threshold": 9.0},
}


class Bench:
    """A run with a corpus and reviews, and a recipe of arms."""

    def __init__(self, run: RunDirectory, console: Console, folder: Path) -> None:
        self.run, self.console, self._folder = run, console, folder
        self.recipe = self.recipe_of(ARMS)

    def recipe_of(self, arms: Mapping[str, Any]) -> Recipe:
        return parse_recipe({"grade": {"judge": "answer-key", "model": "judge"}, "arms": arms})

    def corpus(self, rows: list[Any]) -> Manifest:
        path = self._folder / "data.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        return commit_corpus(self.run, CorpusSettings(data=str(path)), self.console)

    def reviews(self, judge: Judge, remade: int = 0, rubric: str = "accuracy") -> Manifest:
        """Commit reviews as the stage `grade` does; `remade` changes nothing but the settings."""
        triplets = self.run.read_tables(self.run.triplets).to_pylist()
        rows = [
            {
                "triplet_id": row["id"],
                "rubric": rubric,
                "judge_model": "judge",
                "score": score,
                "failure": "timeout: late" if score is None else None,
                "text": "4",
                "prompt_tokens": 1,
                "completion_tokens": 1,
            }
            for row, score in ((row, judge(row)) for row in triplets if not row["duplicate"])
        ]
        folder = self.run.reviews(rubric, "judge")

        def work() -> Made:
            digest = RowDigest()
            digest.add(rows)
            self.run.write_table(f"{folder}/part-00000.parquet", pa.Table.from_pylist(rows, schema=REVIEWS))
            return Made(content=digest.hexdigest())

        inputs = {self.run.triplets: self.run.require(self.run.triplets, "grade")}
        return self.run.make(folder, "grade", {"remade": remade}, inputs, work)[0]

    def select(self, arm: str) -> Manifest:
        return select(self.run, self.recipe, arm, self.console)

    def train_file(self, arm: str) -> list[Any]:
        rows: list[Any] = json.loads(self.run.read_text(f"{self.run.arm(arm)}/train.json"))
        return rows

    def dropped(self, arm: str) -> list[dict[str, Any]]:
        table = pq.read_table(self.run.path(f"{self.run.arm(arm)}/dropped.parquet"))
        assert table.schema.equals(DROPPED)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


@pytest.fixture
def empty(run: RunDirectory, console: Console, tmp_path: Path) -> Bench:
    return Bench(run, console, tmp_path)


@pytest.fixture
def bench(empty: Bench) -> Bench:
    empty.corpus(ROWS)
    empty.reviews(judge)
    return empty


def complaint(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_full_is_every_usable_row_as_the_source_has_it(bench: Bench) -> None:
    bench.select("full")
    kept = bench.train_file("full")
    assert kept == [row for row in ROWS if row["output"]]
    assert [list(row) for row in kept] == [list(row) for row in ROWS if row["output"]]


def test_the_train_file_of_many_parts_is_one_list_in_json(
    empty: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "PART_ROWS", 2)
    texts = ["a\nb", "\u2028\x85\r", '"\\n"', "é\t", "", "  ", "{", "x"]
    rows = [
        {"instruction": f"Name {number}.", "input": text, "output": "Yes.", "more": {"a": [1, {}], "b": []}}
        for number, text in enumerate(texts)
    ]
    empty.corpus(rows)
    assert len(empty.run.list_files(empty.run.triplets)) > 4
    empty.select("full")
    empty.select("three")
    kept = [row for row in rows if row in empty.train_file("three")]
    assert len(kept) == 3
    for arm, wanted in (("full", rows), ("three", kept)):
        text = empty.run.read_text(f"{empty.run.arm(arm)}/train.json")
        assert text == json.dumps(wanted, ensure_ascii=False, indent=4) + "\n"


def test_filtered_is_what_reaches_the_threshold_in_source_order(bench: Bench) -> None:
    manifest = bench.select("filtered")
    assert bench.train_file("filtered") == [ROWS[0], ROWS[3]]
    assert manifest.counts["kept"] == 2


def test_a_row_that_stands_twice_shares_its_review(bench: Bench) -> None:
    bench.recipe = bench.recipe_of({"four": {"selector": "threshold", "threshold": 4.0}})
    bench.select("four")
    assert bench.train_file("four") == [ROWS[0], ROWS[1], ROWS[3], ROWS[5]]


def test_every_row_that_is_left_out_has_its_reason(bench: Bench) -> None:
    bench.select("filtered")
    assert {(row["position"], row["score"], row["reason"]) for row in bench.dropped("filtered")} == {
        (1, 4.0, "score below 4.5"),
        (2, None, "set aside: output is empty"),
        (4, None, "unscored: timeout: late"),
        (5, 4.0, "score below 4.5"),
    }


@pytest.mark.parametrize("arm", ["full", "filtered", "best", "three"])
def test_the_counts_sum_up(bench: Bench, arm: str) -> None:
    manifest = bench.select(arm)
    summary = json.loads(bench.run.read_text(f"{bench.run.arm(arm)}/summary.json"))
    dropped = bench.dropped(arm)
    assert manifest.counts == {
        "rows": len(ROWS),
        "kept": len(bench.train_file(arm)),
        "dropped": len(dropped),
    }
    assert manifest.counts["kept"] + manifest.counts["dropped"] == len(ROWS)
    assert (summary["kept"], summary["dropped"]) == (manifest.counts["kept"], manifest.counts["dropped"])
    assert summary["dropped_by_reason"] == dict(Counter(row["reason"] for row in dropped))
    assert summary["share"] == pytest.approx(summary["kept"] / len(ROWS), abs=1e-5)


def test_random_is_as_large_as_the_arm_that_it_is_compared_with(bench: Bench) -> None:
    bench.select("filtered")
    manifest = bench.select("random")
    assert manifest.counts["kept"] == 2
    assert all(row in ROWS for row in bench.train_file("random"))


def test_random_may_draw_from_another_arm_alone(bench: Bench) -> None:
    arms = {**ARMS, "part": {"selector": "random", "count": 1, "within": "filtered"}}
    drawn = set()
    for seed in range(8):
        bench.recipe = bench.recipe_of({**arms, "part": {**arms["part"], "seed": seed}})
        bench.select("filtered")
        bench.select("part")
        (row,) = bench.train_file("part")
        assert row in bench.train_file("filtered")
        drawn.add(str(row))
    assert len(drawn) == 2, "the draw does not hang on the seed"
    reasons = Counter(row["reason"] for row in bench.dropped("part"))
    assert (reasons["not drawn"], reasons["not in filtered"]) == (1, 3)
    bench.recipe = bench.recipe_of({**arms, "part": {"selector": "random", "count": 3, "within": "filtered"}})
    assert "only 2 are there" in complaint(lambda: bench.select("part"))


def test_random_and_full_need_no_grades(empty: Bench) -> None:
    empty.corpus(ROWS)
    assert empty.select("three").counts["kept"] == 3
    assert empty.select("full").counts["kept"] == 5


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("filterd", '"filtered"'),
        ("none", "empty"),
        ("zzz", "best, filtered, full"),
    ],
)
def test_what_cannot_be_selected_is_told(bench: Bench, arm: str, says: str) -> None:
    assert says in complaint(lambda: bench.select(arm))
    assert bench.run.manifest(bench.run.arm(arm)) is None


def test_an_empty_arm_says_why_it_is_empty(bench: Bench) -> None:
    text = complaint(lambda: bench.select("none"))
    assert "score below 9 (4 rows)" in text
    assert "timeout" in text


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ({"selector": "random", "count": 6}, "wants 6 rows and only 5 are there: set --random to 5"),
        ({"selector": "top-k", "k": 5}, "wants 5 rows and only 4 are there with a score: set --top-k to 4"),
    ],
)
def test_more_rows_than_there_are_is_told(bench: Bench, selector: dict[str, Any], says: str) -> None:
    bench.recipe = bench.recipe_of({"many": selector})
    assert says in complaint(lambda: bench.select("many"))


def share_arm(bench: Bench, share: float) -> None:
    bench.recipe = bench.recipe_of({"share": {"selector": "keep-share", "keep_share": share}})


def test_a_share_says_which_threshold_it_found_and_how_far_it_came(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    share_arm(bench, 0.5)
    bench.console = plain_console()
    bench.select("share")
    summary = json.loads(bench.run.read_text(f"{bench.run.arm('share')}/summary.json"))
    assert bench.train_file("share") == [ROWS[0], ROWS[3]]
    assert summary["settings"]["keep_share"] == 0.5
    assert summary["found"] == {"threshold": 4.5, "scored": 4, "share_of_scored": 0.5}
    assert {row["reason"] for row in bench.dropped("share")} >= {"score below 4.5"}
    said = capsys.readouterr().err
    assert "score 4.5 or more, 50.00 % of the scored (50 % wanted)" in said
    assert "--top-k" not in said


@pytest.mark.parametrize(("share", "kept", "top_k"), [(0.75, 2, 3), (0.9, 4, None), (0.1, 1, None)])
def test_equal_scores_that_spoil_a_share_are_pointed_out(
    bench: Bench, capsys: pytest.CaptureFixture[str], share: float, kept: int, top_k: int | None
) -> None:
    """The scores are 5, 4.5, 4 and 4; a tenth of four rows can be no less than one."""
    share_arm(bench, share)
    bench.console = plain_console()
    assert bench.select("share").counts["kept"] == kept
    said = capsys.readouterr().err
    assert ("drawn among equals" in said) == (top_k is not None)
    assert top_k is None or f"--top-k {top_k};" in said
    bench.select("share")
    assert capsys.readouterr().err == said, "what was said once is said again by a command that finds it done"


def test_a_share_of_nothing_scored_is_told(bench: Bench) -> None:
    bench.reviews(lambda row: None, remade=1)
    share_arm(bench, 0.5)
    assert "timeout: late (5 rows)" in complaint(lambda: bench.select("share"))


def test_a_recipe_without_arms_says_so(bench: Bench) -> None:
    bench.recipe = bench.recipe_of({})
    assert "full" in complaint(lambda: bench.select("full"))


def test_what_has_to_come_first_is_told(empty: Bench) -> None:
    assert "alpagasus grade" in complaint(lambda: empty.select("full"))
    empty.corpus(ROWS)
    assert "alpagasus grade" in complaint(lambda: empty.select("filtered"))
    assert "--arm filtered" in complaint(lambda: empty.select("random"))


def test_each_arm_goes_by_its_own_rubric(bench: Bench) -> None:
    bench.reviews(lambda row: 5.0 if row["instruction"] == "Name a colour." else 1.0, rubric="helpfulness")
    by_rubric = {"selector": "threshold", "threshold": 4.5, "rubric": "helpfulness"}
    bench.recipe = bench.recipe_of({**ARMS, "helpful": by_rubric})
    bench.select("filtered")
    manifest = bench.select("helpful")
    assert [row["instruction"] for row in bench.train_file("filtered")] == ["Name a fruit.", "Add."]
    assert {row["instruction"] for row in bench.train_file("helpful")} == {"Name a colour."}
    assert "reviews/helpfulness--judge" in manifest.inputs
    assert "reviews/accuracy--judge" not in manifest.inputs


def test_an_arm_goes_by_the_first_rubric_of_the_recipe(bench: Bench, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("template: '{output}'\nscale: [0, 5]\nreader: robust\n")
    bench.reviews(lambda row: 5.0 if row["instruction"] == "Add." else 1.0, rubric="own")
    grade = {"judge": "answer-key", "model": "judge", "rubric": [str(own), "accuracy"]}
    bench.recipe = parse_recipe({"grade": grade, "arms": ARMS})
    bench.select("filtered")
    assert [row["instruction"] for row in bench.train_file("filtered")] == ["Add."]


def test_a_rubric_that_is_not_graded_is_told(bench: Bench) -> None:
    wanted = {"selector": "threshold", "threshold": 4.5, "rubric": "acuracy"}
    bench.recipe = bench.recipe_of({"mine": wanted})
    told = complaint(lambda: bench.select("mine"))
    assert 'nothing is graded by a rubric acuracy. Did you mean "accuracy"?' in told


def test_an_arm_is_selected_once(bench: Bench) -> None:
    assert bench.select("filtered") == bench.select("filtered")


def test_reviews_made_again_with_the_same_content_change_nothing(bench: Bench) -> None:
    first = bench.select("filtered")
    assert bench.reviews(judge, remade=1) != first
    assert bench.select("filtered") == first


def test_other_scores_select_anew_and_leave_arms_without_scores_alone(bench: Bench) -> None:
    full = bench.select("full")
    bench.select("filtered")
    bench.reviews(lambda row: 5.0 if row["instruction"] == "Add." else 1.0, remade=1)
    bench.select("filtered")
    assert bench.train_file("filtered") == [ROWS[3]]
    assert bench.select("full") == full


def test_another_threshold_selects_anew(bench: Bench) -> None:
    bench.select("filtered")
    bench.recipe = bench.recipe_of({"filtered": {"selector": "threshold", "threshold": 5}})
    bench.select("filtered")
    assert bench.train_file("filtered") == [ROWS[3]]


def test_random_follows_the_size_of_the_other_arm(bench: Bench) -> None:
    bench.select("filtered")
    bench.select("random")
    bench.recipe = bench.recipe_of({**ARMS, "filtered": {"selector": "threshold", "threshold": 4.0}})
    bench.select("filtered")
    assert bench.select("random").counts["kept"] == 4


def test_an_edited_row_moves_nothing_else_in_an_arm(bench: Bench) -> None:
    bench.select("filtered")
    edited = [*ROWS]
    edited[4] = {**edited[4], "output": "It is Saturday."}
    bench.corpus(edited)
    bench.reviews(judge)
    bench.select("filtered")
    assert bench.train_file("filtered") == [ROWS[0], ROWS[3]]


def test_real_rows_come_out_as_they_went_in(empty: Bench, shared_data: Path) -> None:
    rows = json.loads((shared_data / "dolly_3k.json").read_text(encoding="utf-8"))
    empty.corpus(rows)
    empty.reviews(lambda row: len(row["output"]) % 11 / 2)
    empty.select("full")
    empty.select("filtered")
    assert empty.train_file("full") == rows
    assert [list(row) for row in empty.train_file("full")] == [list(row) for row in rows]
    kept = empty.train_file("filtered")
    in_order = iter(rows)
    assert 0 < len(kept) < len(rows)
    assert all(row in in_order for row in kept)


# What the whole experiment claims: arms differ by what the judge knows, and by nothing else.


def is_good(row: Mapping[str, Any]) -> bool:
    solution = solve(row["instruction"], row["input"])
    return solution is not None and solution.accepts(row["output"])


def share_of_good_rows(rows: list[Any]) -> float:
    return sum(map(is_good, rows)) / len(rows)


def arms_of(bench: Bench, rows: list[dict[str, str]], judge: Judge) -> tuple[list[Any], list[Any]]:
    bench.corpus(rows)
    bench.reviews(judge)
    bench.select("filtered")
    bench.select("random")
    filtered, chosen_at_random = bench.train_file("filtered"), bench.train_file("random")
    assert len(filtered) == len(chosen_at_random) > 100
    return filtered, chosen_at_random


@pytest.mark.parametrize("seed", range(2))
def test_a_judge_that_grades_at_random_gives_no_advantage(empty: Bench, seed: int) -> None:
    rows = generate_rows(2000, seed=seed)
    dice = random.Random(seed)
    filtered, chosen_at_random = arms_of(empty, rows, lambda row: dice.choice([3.0, 3.5, 4.0, 4.0, 4.5]))
    everywhere = share_of_good_rows(rows)
    deviation = math.sqrt(everywhere * (1 - everywhere) / len(filtered))
    assert everywhere == pytest.approx(0.18, abs=0.02)
    assert abs(share_of_good_rows(filtered) - everywhere) < 4 * deviation
    assert abs(share_of_good_rows(chosen_at_random) - everywhere) < 4 * deviation


def test_a_judge_that_knows_the_answers_does(empty: Bench) -> None:
    def grade(row: Mapping[str, Any]) -> float:
        request = Request(RUBRICS["accuracy"].render(row), "answer-key", Sampling(256))
        reply = asyncio.run(AnswerKeyChat().complete(request))
        return READERS["robust"](reply.text, RUBRICS["accuracy"])[0]

    filtered, chosen_at_random = arms_of(empty, generate_rows(1000, seed=0), grade)
    assert share_of_good_rows(filtered) > 0.99
    assert share_of_good_rows(chosen_at_random) < 0.3
