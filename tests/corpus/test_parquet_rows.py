"""Rows out of Parquet: what JSON cannot hold becomes text or is set aside."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alpagasus_ray.corpus.parquet_rows import BATCH_ROWS, read_parquet_rows
from alpagasus_ray.corpus.rows import BadRow
from tests.corpus.conftest import OTHER, ROW, FileOf, complaint, source_file


def rows_of(path: Path) -> list[Any]:
    return list(read_parquet_rows(source_file(path)))


def written(table: pa.Table, path: Path, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def test_rows_come_in_order_over_batches_and_row_groups(tmp_path: Path) -> None:
    rows = [{**ROW, "id": number} for number in range(2 * BATCH_ROWS + 7)]
    path = written(pa.Table.from_pylist(rows), tmp_path / "p.parquet", row_group_size=BATCH_ROWS - 1)
    assert rows_of(path) == rows


def test_nested_values_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": "Hi"}], "n": 1.5, "none": None, "is": True}]
    assert rows_of(written(pa.Table.from_pylist(rows), tmp_path / "p.parquet")) == rows


def test_dates_decimals_and_bytes_of_text_become_text(tmp_path: Path) -> None:
    row = {
        "day": dt.date(2023, 7, 17),
        "at": dt.datetime(2023, 7, 17, 12, 30, tzinfo=dt.UTC),
        "price": decimal.Decimal("1.50"),
        "took": dt.timedelta(seconds=90),
        "output": "é".encode(),
        "pairs": [{"at": dt.time(1, 2)}],
    }
    (found,) = rows_of(written(pa.Table.from_pylist([row]), tmp_path / "p.parquet"))
    assert found == {
        "day": "2023-07-17",
        "at": "2023-07-17T12:30:00+00:00",
        "price": "1.50",
        "took": "0:01:30",
        "output": "é",
        "pairs": [{"at": "01:02:00"}],
    }
    json.dumps(found)


def test_bytes_that_are_no_text_are_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    table = pa.table({"output": pa.array([b"one", b"\xff\xd8", b"three"])})
    found = rows_of(written(table, tmp_path / "p.parquet"))
    assert [getattr(row, "reason", row) for row in found] == [
        {"output": "one"},
        "row is not UTF-8",
        {"output": "three"},
    ]


def test_a_string_that_is_not_utf8_is_set_aside_and_the_others_go_on(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"caf\xe9", b"three"]).view(pa.string())
    found = rows_of(written(pa.table({"output": texts}), tmp_path / "p.parquet"))
    assert isinstance(found[1], BadRow)
    assert found[1].reason == "row is not UTF-8"
    assert [found[0], found[2]] == [{"output": "one"}, {"output": "three"}]


def test_a_date_beyond_the_calendar_is_set_aside(tmp_path: Path) -> None:
    days = pa.array([1, 10_000_000], pa.int32()).cast(pa.date32())
    found = rows_of(written(pa.table({"day": days}), tmp_path / "p.parquet"))
    assert found[0] == {"day": "1970-01-02"}
    assert found[1].reason == "row holds what JSON cannot"


@pytest.mark.parametrize("cut", [0, 3, 4, 100, -1, -5])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, file_of: FileOf, cut: int) -> None:
    whole = written(pa.Table.from_pylist([ROW, OTHER]), tmp_path / "p.parquet").read_bytes()
    path = file_of(whole[:cut], "cut.parquet")
    assert f"{path} cannot be read: " in complaint(lambda: rows_of(path))


def test_a_broken_page_is_refused(tmp_path: Path, file_of: FileOf) -> None:
    rows = [{"output": str(number) * 9} for number in range(5000)]
    whole = bytearray(written(pa.Table.from_pylist(rows), tmp_path / "p.parquet").read_bytes())
    whole[40:4000] = b"\xff" * 3960
    path = file_of(bytes(whole), "broken.parquet")
    assert f"{path} cannot be read: " in complaint(lambda: rows_of(path))


def test_a_packed_file_is_refused(file_of: FileOf) -> None:
    assert "unpack the .gz" in complaint(lambda: rows_of(file_of(b"", "p.parquet.gz")))
