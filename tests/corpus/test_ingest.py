"""From rows, whatever is in them, to triplets: nothing is lost without a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus.ingest import (
    KeptRow,
    describe_failures,
    find_form,
    ingest,
    possible_forms,
    read_rejected,
)
from alpagasus_ray.corpus.row_forms import ALPACA, FORMS, RowForm
from alpagasus_ray.corpus.rows import BadRow
from alpagasus_ray.schemas import TRIPLETS
from tests.corpus.conftest import OTHER, ROW, complaint

DOLLY_ROW = {"instruction": "Name a fruit.", "context": "", "response": "An apple.", "category": "qa"}
CHAT_ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def ingested(
    rows: Iterable[Any], form: RowForm = ALPACA, limit: int | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the records of the rows that were kept, and of those set aside."""
    found = list(ingest(rows, form, limit))
    kept = [row.record for row in found if isinstance(row, KeptRow)]
    return kept, [row.record for row in found if not isinstance(row, KeptRow)]


def reasons(rejected: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(row["reason"] for row in rejected))


def test_rows_keep_their_order_and_their_place_in_the_file() -> None:
    kept, _ = ingested([ROW, "no row", OTHER])
    assert [(row["position"], row["instruction"]) for row in kept] == [
        (0, "Name a fruit."),
        (2, "Name a colour."),
    ]


def test_each_row_that_is_set_aside_has_its_reason_and_is_kept() -> None:
    bad = [{**ROW, "output": ""}, {**ROW, "output": " "}, {"output": "x"}, {**ROW, "input": 3}, 7]
    _, rejected = ingested([ROW, *bad])
    assert [(row["position"], row["row"]) for row in rejected] == list(enumerate(bad, start=1))
    assert reasons(rejected) == {
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
    kept, rejected = ingested([ROW, row])
    assert len(kept) == 1
    assert reasons(rejected) == {"text is not valid Unicode": 1}


def test_nan_in_a_needed_column_is_set_aside_and_elsewhere_kept() -> None:
    nan = float("nan")
    kept, rejected = ingested([{**ROW, "output": nan}, {**ROW, "n": nan}])
    assert reasons(rejected) == {"output is not a string": 1}
    assert [row["position"] for row in kept] == [1]


def test_a_second_row_of_the_same_content_is_marked() -> None:
    kept, _ = ingested([ROW, OTHER, {**ROW, "category": "qa"}, ROW])
    assert [row["duplicate"] for row in kept] == [False, False, True, True]
    assert len({row["id"] for row in kept}) == 2


@pytest.mark.parametrize(
    ("limit", "positions"), [(1, [0]), (2, [0]), (3, [0, 2]), (99, [0, 2]), (None, [0, 2])]
)
def test_a_limit_counts_rows_of_the_source(limit: int | None, positions: list[int]) -> None:
    kept, rejected = ingested([ROW, "bad", OTHER], limit=limit)
    assert [row["position"] for row in kept] == positions
    assert len(kept) + len(rejected) == min(limit or 3, 3)


def test_rows_beyond_the_limit_are_not_even_read() -> None:
    def rows() -> Iterator[Any]:
        yield ROW
        raise AssertionError("read too far")

    assert len(ingested(rows(), limit=1)[0]) == 1


def test_no_usable_row_at_all_is_refused_with_the_reasons() -> None:
    text = complaint(lambda: ingested([{**ROW, "output": ""}, {**ROW, "output": ""}, {}]))
    assert text == "no row is usable: output is empty (2), instruction is missing (1)"


def test_a_huge_row_is_a_row() -> None:
    row = {**ROW, "output": "ü" * 5_000_000}
    assert json.loads(ingested([row])[0][0]["source"]) == row


def test_the_source_row_is_kept_as_it_is() -> None:
    row = {
        "output": "b\u2028\0",
        "id": 7,
        "instruction": "a",
        "meta": {"z": [1.5, None], "a": True},
        "big": 2**70,
    }
    source = ingested([row])[0][0]["source"]
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


@given(ANY_ROWS)
def test_every_row_is_kept_or_set_aside(rows: list[Any]) -> None:
    kept, rejected = ingested([ROW, *rows])
    positions = [row["position"] for row in (*kept, *rejected)]
    assert sorted(positions) == list(range(len(rows) + 1))
    assert pa.Table.from_pylist(kept, schema=TRIPLETS).num_rows == len(kept)
    assert len(read_rejected(json.dumps(rejected))) == len(rejected)


def test_reasons_are_told_the_most_frequent_first() -> None:
    assert describe_failures({"b": 1, "a": 1, "c": 1200}) == "c (1,200), a (1), b (1)"


def test_a_row_that_cannot_be_read_is_set_aside_with_its_line() -> None:
    _, rejected = ingested([ROW, BadRow("line is not JSON", "oops", 7), BadRow("row is not UTF-8", "?")])
    assert [{name: row[name] for name in row if name != "id"} for row in rejected] == [
        {"position": 1, "reason": "line is not JSON", "row": "oops", "line": 7},
        {"position": 2, "reason": "row is not UTF-8", "row": "?"},
    ]
    assert len({row["id"] for row in rejected}) == 2


def test_a_row_too_deep_to_be_written_is_set_aside() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    kept, rejected = ingested([ROW, {**ROW, "deep": deep}, {"deep": deep}])
    assert len(kept) == 1
    assert reasons(rejected) == {"row is nested too deeply": 1, "instruction is missing": 1}
    json.dumps(rejected)


# Forms.


@pytest.mark.parametrize(
    ("row", "form"),
    [
        (ROW, "alpaca"),
        (DOLLY_ROW, "dolly"),
        (CHAT_ROW, "chat"),
        ({"conversations": []}, "chat"),
        ({**ROW, "context": "", "category": "qa"}, "alpaca"),
    ],
)
def test_the_form_is_seen_from_the_first_row_that_has_one(row: Any, form: str) -> None:
    rows = iter([BadRow("line is not JSON", "oops", 1), 5, {"id": 1}, row, AssertionError])
    assert find_form(rows, possible_forms("auto", {}), "file") == FORMS[form]
    assert next(rows) is AssertionError, "it read further than it had to"


def test_columns_with_names_of_their_own_are_found() -> None:
    columns = {"instruction": "prompt", "output": "answer"}
    form = find_form([{"prompt": "a", "answer": "b"}], possible_forms("auto", columns), "file")
    kept, _ = ingested([{"prompt": "a", "answer": "b", "input": "c"}], form)
    assert [(row["instruction"], row["input"], row["output"]) for row in kept] == [("a", "c", "b")]


def test_dollys_other_columns_stand_where_one_is_named() -> None:
    form = find_form(
        [{"question": "a", "context": "b", "response": "c"}],
        possible_forms("dolly", {"instruction": "question"}),
        "file",
    )
    kept, _ = ingested([{"question": "a", "context": "b", "response": "c"}], form)
    assert [(row["instruction"], row["input"], row["output"]) for row in kept] == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("rows", "format", "columns", "says"),
    [
        ([], "auto", {}, "file holds no rows"),
        ([BadRow("row is not UTF-8", "", 2)], "auto", {}, "no row can be read: row is not UTF-8"),
        (["a", "b"], "auto", {}, "columns found: none"),
        ([{"prompt": "a", "completion": "b"}], "auto", {}, "columns found: completion, prompt"),
        ([{"prompt": "a"}], "auto", {}, "instruction and response (dolly); conversations or messages (chat)"),
        ([DOLLY_ROW], "alpaca", {}, "looked for: instruction and output (alpaca) (columns found: category,"),
        ([ROW], "auto", {"output": "answer"}, "instruction and answer (alpaca)"),
        ([ROW], "chat", {}, "looked for: conversations or messages (chat) (columns"),
    ],
)
def test_rows_of_no_known_form_are_told_what_was_looked_for(
    rows: list[Any], format: str, columns: dict[str, str], says: str
) -> None:
    assert says in complaint(lambda: find_form(rows, possible_forms(format, columns), "file"))
