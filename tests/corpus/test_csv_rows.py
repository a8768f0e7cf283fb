"""Rows out of CSV: quoted line breaks, wrong field counts, broken quotes and broken bytes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus import csv_rows
from alpagasus_ray.corpus.csv_rows import read_csv_rows
from alpagasus_ray.corpus.rows import BadRow
from tests.corpus.conftest import FileOf, complaint, source_file

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.text('",\r\n a\0', max_size=8)


def rows_of(path: Path) -> list[Any]:
    return list(read_csv_rows(source_file(path)))


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]], end: str, has_mark: bool
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("instruction", "output"), *texts])
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    path.write_bytes(b"\xef\xbb\xbf" * has_mark + written.getvalue().encode())
    assert rows_of(path) == [{"instruction": one, "output": two} for one, two in texts]


def test_quoted_texts_may_hold_line_breaks_commas_and_quotes(file_of: FileOf) -> None:
    path = file_of('a,b\r\n"1\r\n2\n","x, ""y"""\r\n\r\n3,\r\n')
    assert rows_of(path) == [{"a": "1\r\n2\n", "b": 'x, "y"'}, {"a": "3", "b": ""}]


def test_rows_that_do_not_fit_the_header_are_set_aside_and_the_others_go_on(file_of: FileOf) -> None:
    path = file_of(b'a,b\n1,2\n1\n1,2,3\n"p"q,2\ncaf\xe9,2\n\xc3\xa9,2\n')
    assert rows_of(path) == [
        {"a": "1", "b": "2"},
        BadRow("row has fewer fields than the header", "1", 3),
        BadRow("row has more fields than the header", "1,2,3", 4),
        BadRow("row is not CSV", "',' expected after '\"'", 5),
        BadRow("row is not UTF-8", "caf\ufffd,2", 6),
        {"a": "é", "b": "2"},
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b,a\n1,2,3\n", "names the column 'a' twice"),
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: a quote in the row there is never closed"),
        ('"a,b\n1,2\n', "not CSV"),
        (b"\xff\xfea\0,\0b\0\n\0", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused(file_of: FileOf, content: bytes | str, says: str) -> None:
    path = file_of(content)
    text = complaint(lambda: rows_of(path))
    assert str(path) in text
    assert says in text


def test_a_megabyte_in_one_field_is_read(file_of: FileOf) -> None:
    assert rows_of(file_of("a,b\n" + "x" * 1_000_000 + ",2\n"))[0]["a"] == "x" * 1_000_000


def test_a_quote_that_swallows_the_file_is_told_before_memory_is_full(
    file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 1 << 20)  # for the test's own sake: 64 MiB take a while
    path = file_of('a,b\n1,2\n"3,4\n' + ("x" * 9_999 + "\n") * 200)
    assert f"{path}, line 3: a text there is longer than 64 MiB" in complaint(lambda: rows_of(path))
