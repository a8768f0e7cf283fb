"""The corpus as an artifact: in parts, once for the same bytes, and never half."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus import committing
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.row_forms import FORMS, RowForm
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.triplets import triplet_id
from alpagasus_ray.recipe import CorpusSettings
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.schemas import TRIPLETS
from alpagasus_ray.select.selecting import select
from tests.corpus.conftest import OTHER, ROW, FileOf, complaint


def commit(run: RunDirectory, console: Console, path: Path, **settings: Any) -> Any:
    return commit_corpus(run, CorpusSettings(data=str(path), **settings), console)


def triplets_of(run: RunDirectory) -> list[dict[str, Any]]:
    table = run.read_tables(run.triplets)
    assert table.schema.equals(TRIPLETS)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def rejected_of(run: RunDirectory) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run.read_text(run.rejected))
    return rows


def test_the_corpus_is_committed_once(run: RunDirectory, console: Console, file_of: FileOf) -> None:
    path = file_of(json.dumps([ROW, {**ROW, "output": ""}, ROW, OTHER]))
    manifest = commit(run, console, path)
    assert manifest.counts == {"rows": 3, "rejected": 1, "duplicates": 1}
    assert manifest.failures == {"output is empty": 1}
    written = Path(run.path(f"{run.triplets}/part-00000.parquet")).stat().st_mtime_ns
    assert commit(run, console, path) == manifest
    assert Path(run.path(f"{run.triplets}/part-00000.parquet")).stat().st_mtime_ns == written
    assert [row["position"] for row in triplets_of(run)] == [0, 2, 3]
    assert [(row["position"], row["row"]["output"]) for row in rejected_of(run)] == [(1, "")]


def test_many_rows_go_into_parts_in_order(
    run: RunDirectory, console: Console, file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "PART_ROWS", 4)
    path = file_of("\n".join(json.dumps({**ROW, "output": str(n // 2)}) for n in range(11)), "data.jsonl")
    assert commit(run, console, path).counts == {"rows": 11, "rejected": 0, "duplicates": 5}
    parts = [name for name in run.list_files(run.triplets) if name.endswith(".parquet")]
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    rows = triplets_of(run)
    assert [(row["position"], row["output"], row["duplicate"]) for row in rows] == [
        (n, str(n // 2), n % 2 == 1) for n in range(11)
    ]
    assert rejected_of(run) == []


def test_big_rows_make_small_parts(
    run: RunDirectory, console: Console, file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "PART_CHARACTERS", 1000)
    path = file_of(json.dumps([{**ROW, "output": f"{n}" * 600} for n in range(4)]))
    commit(run, console, path)
    assert "part-00001.parquet" in run.list_files(run.triplets)
    assert [row["position"] for row in triplets_of(run)] == [0, 1, 2, 3]


def test_a_changed_file_limit_or_reading_is_committed_anew(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    first = commit(run, console, file_of(json.dumps([ROW, OTHER])))
    changed = commit(run, console, file_of(json.dumps([ROW])))
    assert (first.counts["rows"], changed.counts["rows"]) == (2, 1)
    path = file_of(json.dumps([ROW, OTHER]))
    limited = commit(run, console, path, limit=1)
    assert limited.content == changed.content
    mapped = commit(run, console, path, columns={"output": "instruction"})
    assert [row["output"] for row in triplets_of(run)] == ["Name a fruit.", "Name a colour."]
    assert mapped.content != first.content


def test_the_same_bytes_elsewhere_are_the_same_corpus(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    first = commit(run, console, file_of(json.dumps([ROW])))
    assert commit(run, console, file_of(json.dumps([ROW]), "moved.json")) == first


def test_without_data_the_runs_own_corpus_is_taken(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    assert "--data" in complaint(lambda: commit_corpus(run, CorpusSettings(), console))
    first = commit(run, console, file_of(json.dumps([ROW])))
    assert commit_corpus(run, CorpusSettings(), console) == first


@pytest.mark.parametrize("data", ["no/such.json", "", ".", "toyworld"])
def test_data_that_is_not_there_is_refused(run: RunDirectory, console: Console, data: str) -> None:
    complaint(lambda: commit_corpus(run, CorpusSettings(data=data), console))
    assert run.manifest(run.triplets) is None


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([ROW] * 50)[:-1],
        json.dumps([{**ROW, "output": ""}]),
        "[]",
        json.dumps([ROW, OTHER]) + "more",
    ],
    ids=["cut off", "no usable row", "empty", "more behind"],
)
def test_a_broken_file_leaves_the_old_rows_and_nothing_else(
    run: RunDirectory, console: Console, file_of: FileOf, content: str
) -> None:
    first = commit(run, console, file_of(json.dumps([ROW])))
    complaint(lambda: commit(run, console, file_of(content)))
    assert run.manifest(run.triplets) == first
    assert len(triplets_of(run)) == 1
    assert not run.exists(run.triplets_staged)


def test_what_a_killed_command_left_is_not_taken_over(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    run.write_text(f"{run.triplets_staged}/part-00007.parquet", "half a part")
    commit(run, console, file_of(json.dumps([ROW])))
    assert len(triplets_of(run)) == 1
    assert not run.exists(run.triplets_staged)


def test_half_a_character_in_a_rejected_row_stops_nothing(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    path = file_of(json.dumps([ROW, {"instruction": "\ud800", "output": ""}, {**ROW, "output": "\ud800"}]))
    assert commit(run, console, path).counts["rejected"] == 2
    assert len(rejected_of(run)) == 2


def test_a_bad_line_is_kept_with_its_number(run: RunDirectory, console: Console, file_of: FileOf) -> None:
    path = file_of(f"{json.dumps(ROW)}\n\noops\n{json.dumps(OTHER)}\n", "data.jsonl")
    assert commit(run, console, path).failures == {"line is not JSON": 1}
    (bad,) = rejected_of(run)
    assert (bad["position"], bad["line"], bad["row"]) == (1, 3, "oops")


# The forms of the source, from the file to the text that is trained on.

EXCHANGE = [{"from": "human", "value": "Name a fruit."}, {"from": "gpt", "value": "An apple."}]
FULL = parse_recipe({"arms": {"full": {"selector": "full"}}})


def as_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_packed(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return path


DOLLY = {"instruction": "Name a fruit.", "context": "Red", "response": "An apple.", "category": "qa"}
OWN = {"id": "7", "prompt": "Name a fruit.", "input": "Red", "answer": "An apple."}
MAPPED = {"columns": {"instruction": "prompt", "output": "answer"}}
EXPECTED = ("Name a fruit.", "Red", "An apple.")


@pytest.mark.parametrize(
    ("write", "name", "row", "settings", "form", "texts"),
    [
        (as_lines, "d.jsonl", {**ROW, "input": "Red", "n": 1.5}, {}, "alpaca", EXPECTED),
        (as_packed, "d.json.gz", {**ROW, "input": "Red"}, {}, "alpaca", EXPECTED),
        (as_lines, "d.jsonl", DOLLY, {}, "dolly", EXPECTED),
        (as_csv, "d.csv", DOLLY, {}, "dolly", EXPECTED),
        (as_csv, "table", DOLLY, {"format": "csv"}, "dolly", EXPECTED),
        (as_parquet, "d.parquet", DOLLY, {"format": "dolly"}, "dolly", EXPECTED),
        (as_parquet, "table", DOLLY, {}, "dolly", EXPECTED),
        (as_csv, "d.csv", OWN, MAPPED, "alpaca", EXPECTED),
        (as_lines, "d.json", OWN, MAPPED, "alpaca", EXPECTED),
        (as_lines, "d.jsonl", {"conversations": EXCHANGE}, {}, "chat", ("Name a fruit.", "", "An apple.")),
        (
            as_parquet,
            "d.parquet",
            {"conversations": EXCHANGE},
            {},
            "chat",
            ("Name a fruit.", "", "An apple."),
        ),
    ],
)
def test_every_form_is_selected_unchanged_and_trained_on(
    run: RunDirectory,
    console: Console,
    tmp_path: Path,
    write: Any,
    name: str,
    row: dict[str, Any],
    settings: dict[str, Any],
    form: str,
    texts: tuple[str, str, str],
) -> None:
    from alpagasus_ray.train.examples import build_examples
    from tests.train.test_examples import TinyTokenizer

    path = write(tmp_path / name, [row, row])
    assert commit(run, console, path, **settings).counts == {"rows": 2, "rejected": 0, "duplicates": 1}
    triplet = triplets_of(run)[0]
    assert triplet["id"] == triplet_id(*texts)
    arm = select(run, FULL, "full", console)
    rows = json.loads(run.read_text(f"{run.arm('full')}/train.json"))
    assert rows == [row, row]
    assert list(rows[0]) == list(row), "fields in the source's order"
    summary = json.loads(run.read_text(f"{run.arm('full')}/summary.json"))
    found = RowForm.from_json(arm.details["row_form"])
    assert summary["row_form"] == found.to_json()
    assert found.name == form
    tokenizer = TinyTokenizer()
    examples, dropped = build_examples(rows, tokenizer, 512, found)
    assert dropped == {}
    assert tokenizer.decode(examples[0].input_ids) == f"{render_prompt(*texts[:2])}{texts[2]}<eos>"


# Real data, where it is at hand.


@pytest.mark.parametrize(
    ("name", "num_rows", "num_empty", "num_twice"), [("random_9k", 9229, 4, 0), ("dolly_3k", 2996, 0, 2)]
)
def test_real_rows_are_all_accounted_for(
    run: RunDirectory,
    console: Console,
    shared_data: Path,
    name: str,
    num_rows: int,
    num_empty: int,
    num_twice: int,
) -> None:
    path = shared_data / f"{name}.json"
    manifest = commit(run, console, path)
    assert manifest.failures == ({"output is empty": num_empty} if num_empty else {})
    assert manifest.counts["rows"] == num_rows - num_empty
    assert manifest.counts["duplicates"] == num_twice
    assert all(not row["row"]["output"].strip() for row in rejected_of(run))
    rows = json.loads(path.read_text(encoding="utf-8"))
    found = triplets_of(run)
    assert [json.loads(row["source"]) for row in found] == [row for row in rows if row["output"].strip()]
    assert all(row["category"] for row in found) == (name == "dolly_3k")


@pytest.mark.parametrize(
    ("write", "name"), [(as_lines, "d.jsonl"), (as_csv, "d.csv"), (as_parquet, "d.parquet")]
)
def test_real_dolly_rows_in_dollys_own_columns_have_the_same_ids(
    run: RunDirectory, console: Console, shared_data: Path, tmp_path: Path, write: Any, name: str
) -> None:
    commit(run, console, shared_data / "dolly_3k.json")
    ids = [row["id"] for row in triplets_of(run)]
    rows = json.loads((shared_data / "dolly_3k.json").read_text(encoding="utf-8"))
    own = {"instruction": "instruction", "context": "input", "response": "output", "category": "category"}
    path = write(tmp_path / name, [{column: row[key] for column, key in own.items()} for row in rows])
    manifest = commit(run, console, path)
    assert RowForm.from_json(manifest.details["row_form"]) == FORMS["dolly"]
    assert [row["id"] for row in triplets_of(run)] == ids


def test_equal_rows_of_two_real_files_have_equal_ids(
    run: RunDirectory, console: Console, shared_data: Path
) -> None:
    """The data's own description says that 935 rows are in both."""
    ids = []
    for name in ("random_9k.json", "claude_t45.json"):
        commit(run, console, shared_data / name)
        ids.append({row["id"] for row in triplets_of(run)})
    assert len(ids[0] & ids[1]) == 935
