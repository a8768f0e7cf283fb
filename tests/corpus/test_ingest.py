"""From a file, whatever is in it, to triplets: nothing is lost without a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.ingest import describe_failures, ingest, read_json_rows, read_text
from alpagasus_ray.corpus.triplets import triplet_id
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import CorpusSettings
from alpagasus_ray.schemas import TRIPLETS

ROW = {"instruction": "Name a fruit.", "input": "", "output": "An apple."}
OTHER = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
FileOf = Callable[[bytes | str], Path]


@pytest.fixture
def file_of(tmp_path: Path) -> FileOf:
    def write(content: bytes | str) -> Path:
        path = tmp_path / "data.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def complaint(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    return text


# Files.


def test_a_good_file_is_read(file_of: FileOf) -> None:
    assert read_json_rows(file_of(json.dumps([ROW, OTHER]))) == [ROW, OTHER]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('[\n {"instruction": "a", "output": "b"},\n {"instruction": oops}\n]', "line 3, column 18"),
        ('[{"instruction": "a", "output": "b"}', "line 1, column 37"),
        ('[{"instruction": "a", "outp', "line 1, column 23"),
        ('[{"instruction": "a", "output": "b"},]', "line 1, column"),
        ("[{'instruction': 'a'}]", "line 1, column 3"),
        ('[{"instruction": "a\nb", "output": "b"}]', "line 1, column"),
        ('{"instruction": "a", "output": "b"}\n{"instruction": "c", "output": "d"}\n', "line 2, column 1"),
        ("", "line 1, column 1"),
        ("<html>", "line 1, column 1"),
    ],
)
def test_broken_json_names_the_place(file_of: FileOf, content: str, where: str) -> None:
    path = file_of(content)
    assert f"{path}, {where}" in complaint(lambda: read_json_rows(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "holds no rows"),
        ("{}", "a JSON list"),
        ('{"data": []}', "a JSON list"),
        ("5", "a JSON list"),
        ("null", "a JSON list"),
        ('["a", "b"]', "columns found: none"),
        ("[1, null]", "columns found: none"),
        (
            '[{"prompt": "a", "completion": "b"}]',
            "no row has a column instruction (columns found: completion",
        ),
        ('[{"instruction": "a", "response": "b"}]', "no row has a column output"),
    ],
)
def test_json_that_is_no_instruction_data_is_refused(file_of: FileOf, content: str, says: str) -> None:
    path = file_of(content)
    text = complaint(lambda: read_json_rows(path))
    assert str(path) in text
    assert says in text


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '[{"instruction": "a", "output": "b", "n": ' + "9" * 5000 + "}]",
    ],
)
def test_json_that_breaks_the_reader_is_refused(file_of: FileOf, content: str) -> None:
    path = file_of(content)
    assert str(path) in complaint(lambda: read_json_rows(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"instruction": "caf\xe9"}]', "not UTF-8 at byte 21"),
        (json.dumps([ROW]).encode("utf-16"), "not UTF-8 at byte 0"),
        (b"PAR1\xff\x00", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(file_of: FileOf, content: bytes, says: str) -> None:
    assert says in complaint(lambda: read_json_rows(file_of(content)))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in complaint(lambda: read_text(tmp_path / "nothing.json"))
    assert str(tmp_path) in complaint(lambda: read_text(tmp_path))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode() + b"\n\n  \n",
        lambda text: json.dumps(json.loads(text)).encode(),
    ],
    ids=["byte order mark", "CRLF", "blank end", "ASCII"],
)
def test_how_a_file_is_written_does_not_matter(file_of: FileOf, encode: Callable[[str], bytes]) -> None:
    rows = [{**ROW, "output": "Äpfel \u2028 und\nBirnen 🍐"}]
    assert read_json_rows(file_of(encode(json.dumps(rows, ensure_ascii=False, indent=1)))) == rows


# Rows.


def test_rows_keep_their_order_and_their_place_in_the_file() -> None:
    corpus = ingest([ROW, "no row", OTHER])
    assert [(row["position"], row["instruction"]) for row in corpus.rows] == [
        (0, "Name a fruit."),
        (2, "Name a colour."),
    ]


def test_each_row_that_is_set_aside_has_its_reason_and_is_kept() -> None:
    bad = [{**ROW, "output": ""}, {**ROW, "output": " "}, {"output": "x"}, {**ROW, "input": 3}, 7]
    corpus = ingest([ROW, *bad])
    assert [(row["position"], row["row"]) for row in corpus.rejected] == list(enumerate(bad, start=1))
    assert corpus.failures() == {
        "output is empty": 2,
        "instruction is missing": 1,
        "input is not a string": 1,
        "row is not an object": 1,
    }


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "output": "half a \ud83d"},
        {**ROW, "category": "\udc00"},
        {**ROW, "note": {"deep": ["\ud800"]}},
        {**ROW, "\ud800": "key"},
    ],
)
def test_half_a_character_is_set_aside(row: dict[str, Any]) -> None:
    corpus = ingest([ROW, row])
    assert len(corpus.rows) == 1
    assert corpus.failures() == {"text is not valid Unicode": 1}
    corpus.to_table()


def test_a_whole_character_written_as_two_halves_is_one(file_of: FileOf) -> None:
    rows = read_json_rows(file_of(r'[{"instruction": "a", "output": "\ud83c\udf50"}]'))
    assert ingest(rows).rows[0]["output"] == "🍐"


def test_nan_in_a_needed_column_is_set_aside_and_elsewhere_kept(file_of: FileOf) -> None:
    rows = read_json_rows(
        file_of('[{"instruction": "a", "output": NaN}, {"instruction": "a", "output": "b", "n": NaN}]')
    )
    corpus = ingest(rows)
    assert corpus.failures() == {"output is not a string": 1}
    assert [row["position"] for row in corpus.rows] == [1]


def test_a_second_row_of_the_same_content_is_marked() -> None:
    corpus = ingest([ROW, OTHER, {**ROW, "category": "qa"}, ROW])
    assert [row["duplicate"] for row in corpus.rows] == [False, False, True, True]
    assert corpus.num_duplicates == 2
    assert len({row["id"] for row in corpus.rows}) == 2


@pytest.mark.parametrize(
    ("limit", "positions"), [(1, [0]), (2, [0]), (3, [0, 2]), (99, [0, 2]), (None, [0, 2])]
)
def test_a_limit_counts_rows_of_the_source(limit: int | None, positions: list[int]) -> None:
    assert [row["position"] for row in ingest([ROW, "bad", OTHER], limit).rows] == positions


def test_no_usable_row_at_all_is_refused_with_the_reasons() -> None:
    text = complaint(lambda: ingest([{**ROW, "output": ""}, {**ROW, "output": ""}, {}]))
    assert text == "no row is usable: output is empty (2), instruction is missing (1)"


def test_a_huge_row_is_a_row() -> None:
    row = {**ROW, "output": "ü" * 5_000_000}
    table = ingest([row]).to_table()
    assert json.loads(table["source"][0].as_py()) == row


def test_the_source_row_is_kept_as_it_is() -> None:
    row = {
        "output": "b\u2028\0",
        "id": 7,
        "instruction": "a",
        "meta": {"z": [1.5, None], "a": True},
        "big": 2**70,
    }
    source = ingest([row]).rows[0]["source"]
    assert json.loads(source) == row
    assert list(json.loads(source)) == list(row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
ANY_ROWS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {"instruction": JSON, "output": JSON}, optional={"input": JSON, "category": JSON, "more": JSON}
    ),
    max_size=4,
)


@settings(deadline=None, derandomize=True)
@given(ANY_ROWS)
def test_every_row_is_kept_or_set_aside(rows: list[Any]) -> None:
    corpus = ingest([ROW, *rows])
    positions = [row["position"] for row in (*corpus.rows, *corpus.rejected)]
    assert sorted(positions) == list(range(len(rows) + 1))
    assert corpus.to_table().schema == TRIPLETS
    json.dumps(corpus.rejected)


def test_reasons_are_told_the_most_frequent_first() -> None:
    assert describe_failures({"b": 1, "a": 1, "c": 1200}) == "c (1,200), a (1), b (1)"


# Committing.


def test_the_corpus_is_committed_once(run: RunDirectory, console: Console, file_of: FileOf) -> None:
    settings = CorpusSettings(data=str(file_of(json.dumps([ROW, {**ROW, "output": ""}, ROW, OTHER]))))
    manifest = commit_corpus(run, settings, console)
    assert manifest.counts == {"rows": 3, "rejected": 1, "duplicates": 1}
    assert manifest.failures == {"output is empty": 1}
    assert commit_corpus(run, settings, console) == manifest
    assert run.read_tables(run.triplets)["position"].to_pylist() == [0, 2, 3]


def test_a_changed_file_or_limit_is_committed_anew(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    first = commit_corpus(run, CorpusSettings(data=str(file_of(json.dumps([ROW, OTHER])))), console)
    changed = commit_corpus(run, CorpusSettings(data=str(file_of(json.dumps([ROW])))), console)
    assert (first.counts["rows"], changed.counts["rows"]) == (2, 1)
    path = file_of(json.dumps([ROW, OTHER]))
    limited = commit_corpus(run, CorpusSettings(data=str(path), limit=1), console)
    assert limited.content == changed.content


def test_the_same_file_elsewhere_is_the_same_corpus(
    run: RunDirectory, console: Console, file_of: FileOf, tmp_path: Path
) -> None:
    first = commit_corpus(run, CorpusSettings(data=str(file_of(json.dumps([ROW])))), console)
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps([ROW]))
    assert commit_corpus(run, CorpusSettings(data=str(moved)), console) == first


def test_without_data_the_runs_own_corpus_is_taken(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    assert "--data" in complaint(lambda: commit_corpus(run, CorpusSettings(), console))
    first = commit_corpus(run, CorpusSettings(data=str(file_of(json.dumps([ROW])))), console)
    assert commit_corpus(run, CorpusSettings(), console) == first


@pytest.mark.parametrize("data", ["no/such.json", "", ".", "toyworld"])
def test_data_that_is_not_there_is_refused(run: RunDirectory, console: Console, data: str) -> None:
    complaint(lambda: commit_corpus(run, CorpusSettings(data=data), console))
    assert run.manifest(run.triplets) is None


def test_half_a_character_in_a_rejected_row_stops_nothing(
    run: RunDirectory, console: Console, file_of: FileOf
) -> None:
    path = file_of(json.dumps([ROW, {"instruction": "\ud800", "output": ""}, {**ROW, "output": "\ud800"}]))
    assert commit_corpus(run, CorpusSettings(data=str(path)), console).counts["rejected"] == 2


# Real data, where it is at hand.


@pytest.mark.parametrize(
    ("name", "num_rows", "num_empty", "num_twice"), [("random_9k", 9229, 4, 0), ("dolly_3k", 2996, 0, 2)]
)
def test_real_rows_are_all_accounted_for(
    shared_data: Path, name: str, num_rows: int, num_empty: int, num_twice: int
) -> None:
    rows = read_json_rows(shared_data / f"{name}.json")
    corpus = ingest(rows)
    assert len(rows) == num_rows
    assert corpus.failures() == ({"output is empty": num_empty} if num_empty else {})
    assert all(not row["row"]["output"].strip() for row in corpus.rejected)
    assert len(corpus.rows) == num_rows - num_empty
    assert corpus.num_duplicates == num_twice
    assert [json.loads(row["source"]) for row in corpus.rows] == [
        row for row in rows if row["output"].strip()
    ]


def test_dolly_has_categories(shared_data: Path) -> None:
    corpus = ingest(read_json_rows(shared_data / "dolly_3k.json"))
    assert all(row["category"] for row in corpus.rows)


def test_equal_rows_of_two_real_files_have_equal_ids(shared_data: Path) -> None:
    """The data's own description says that 935 rows are in both."""
    ids = [
        {
            triplet_id(row["instruction"], row["input"], row["output"])
            for row in read_json_rows(shared_data / name)
        }
        for name in ("random_9k.json", "claude_t45.json")
    ]
    assert len(ids[0] & ids[1]) == 935
