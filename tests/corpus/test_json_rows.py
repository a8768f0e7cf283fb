"""Rows out of JSON, however the file is cut, filled with blanks, or broken."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alpagasus_ray.corpus import rows as limits
from alpagasus_ray.corpus.json_rows import read_json_lines, read_json_list, read_json_rows
from alpagasus_ray.corpus.rows import BadRow
from alpagasus_ray.errors import UserError
from tests.corpus.conftest import OTHER, ROW, FileOf, complaint, source_file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=5)
BLANKS = st.text(" \t\r\n", max_size=3)
WHERE = re.compile(r"file, line (\d+), column (\d+): ")


class Dribble:
    """A stream that gives few bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._stream, self._sizes, self._turn = io.BytesIO(data), sizes, 0

    def read(self, size: int) -> bytes:
        self._turn += 1
        return self._stream.read(min(size, self._sizes[self._turn % len(self._sizes)]))


def read_list(data: bytes, sizes: list[int] | None = None) -> list[Any]:
    return list(read_json_list(Dribble(data, sizes or [1 << 20]), "file"))


def read_lines_of(data: bytes, sizes: list[int] | None = None) -> list[Any]:
    return list(read_json_lines(Dribble(data, sizes or [1 << 20]), "file"))


def rows_of(path: Path) -> list[Any]:
    return list(read_json_rows(source_file(path)))


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(OBJECTS, SIZES, st.lists(BLANKS, min_size=4, max_size=4), st.booleans(), st.sampled_from([None, 0, 3]))
def test_a_list_is_read_back_however_it_is_cut_and_filled(
    rows: list[Any], sizes: list[int], blanks: list[str], ascii: bool, indent: int | None
) -> None:
    between = f"{blanks[0]},{blanks[1]}"
    inner = between.join(json.dumps(row, ensure_ascii=ascii, indent=indent) for row in rows)
    data = f"{blanks[2]}[{blanks[0]}{inner}{blanks[1]}]{blanks[3]}"
    assert read_list(data.encode(), sizes) == rows


@given(st.lists(JSON, max_size=5), SIZES)
@example([1, 12, -1.5e-7, True, None], [1])
def test_a_number_or_word_that_is_cut_is_still_one(rows: list[Any], sizes: list[int]) -> None:
    assert read_list(json.dumps(rows).encode(), sizes) == rows


@given(OBJECTS.filter(bool), SIZES, st.sampled_from(["\n", "\r\n", "\n\n \n"]), st.booleans())
def test_lines_are_read_back_however_they_are_cut(
    rows: list[Any], sizes: list[int], line_break: str, has_end: bool
) -> None:
    data = line_break.join(json.dumps(row, ensure_ascii=False) for row in rows) + line_break * has_end
    assert read_lines_of(data.encode(), sizes) == rows


@given(OBJECTS, st.sampled_from([None, 2]), st.booleans(), SIZES, st.data())
def test_a_list_that_is_cut_off_names_a_place_in_the_file(
    rows: list[Any], indent: int | None, ascii: bool, sizes: list[int], data: st.DataObject
) -> None:
    whole = json.dumps(rows, ensure_ascii=ascii, indent=indent).encode()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(UserError) as caught:
        read_list(cut, sizes)
    found = WHERE.match(str(caught.value))
    assert found, str(caught.value)
    line, column = int(found[1]), int(found[2])
    lines = cut.decode("utf-8", "ignore").split("\n")
    assert 1 <= line <= len(lines)
    assert 1 <= column <= len(lines[line - 1]) + 1


@given(st.text(max_size=30) | st.text('[]{},:" \n1eE.-', max_size=30), SIZES)
def test_what_the_json_module_refuses_is_refused(text: str, sizes: list[int]) -> None:
    """And the place is the same, where the text is a list up to there."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    try:
        expected = json.loads(text)
    except ValueError as error:
        with pytest.raises(UserError) as caught:
            read_list(data, sizes)
        if text.lstrip(" \n\t\r").startswith("[") and isinstance(error, json.JSONDecodeError):
            assert f"file, line {error.lineno}, column" in str(caught.value)
        return
    if isinstance(expected, list):
        assert read_list(data, sizes) == expected
    else:
        assert "a JSON list" in complaint(lambda: read_list(data, sizes))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('[\n {"instruction": "a", "output": "b"},\n {"instruction": oops}\n]', "line 3, column 18"),
        ('[{"instruction": "a", "output": "b"}', "line 1, column 37"),
        ('[{"instruction": "a", "outp', "line 1, column 23"),
        ('[{"instruction": "a", "output": "b"},]', "line 1, column"),
        ("[{'instruction': 'a'}]", "line 1, column 3"),
        ('[{"instruction": "a\nb", "output": "b"}]', "line 1, column"),
        ('[{"instruction": "a"}]\n{"instruction": "c"}\n', "line 2, column 1"),
        ("", "line 1, column 1"),
        ("<html>", "line 1, column 1"),
        ('{\n "data": []\n}', "line 1, column 2"),
    ],
)
def test_broken_json_names_the_place(file_of: FileOf, content: str, where: str) -> None:
    path = file_of(content)
    assert f"{path}, {where}" in complaint(lambda: rows_of(path))


def test_a_place_far_into_the_file_is_counted_from_its_start(file_of: FileOf) -> None:
    rows = [{"instruction": f"é {number}", "output": "b" * 5000} for number in range(1000)]
    lines = json.dumps(rows, indent=1, ensure_ascii=False).split("\n")
    lines[3499] = '  "output": oops'
    text = complaint(lambda: rows_of(file_of("\n".join(lines))))
    assert "line 3500, column 13: not JSON" in text


@pytest.mark.parametrize("content", ["5", "null", '"text"', "[1, 2] 3"])
def test_json_that_is_no_list_of_rows_is_refused(file_of: FileOf, content: str) -> None:
    path = file_of(content)
    text = complaint(lambda: rows_of(path))
    assert str(path) in text
    assert "a JSON list of rows, or one object a line" in text


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '[{"instruction": "a", "output": "b", "n": ' + "9" * 5000 + "}]",
    ],
)
def test_json_that_breaks_the_reader_is_refused_with_its_place(file_of: FileOf, content: str) -> None:
    path = file_of(content)
    assert f"{path}, line 1, column 2: " in complaint(lambda: rows_of(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"instruction": "caf\xe9"}]', "line 1, column 22: not UTF-8 at byte 21"),
        (b'\xef\xbb\xbf[\n{"instruction": "\xc3\xa9\xe9"}]', "line 2, column 19: not UTF-8 at byte 24"),
        (json.dumps([ROW]).encode("utf-16"), "not UTF-8 at byte 0"),
        (b"\xff\x00", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(file_of: FileOf, content: bytes, says: str) -> None:
    assert says in complaint(lambda: rows_of(file_of(content)))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode() + b"\n\n  \n",
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: "\n".join(json.dumps(row) for row in json.loads(text)).encode(),
        lambda text: b"\xef\xbb\xbf" + "\n".join(json.dumps(row) for row in json.loads(text)).encode(),
    ],
    ids=["byte order mark", "CRLF", "blank end", "ASCII", "lines", "lines with a byte order mark"],
)
def test_how_a_file_is_written_does_not_matter(file_of: FileOf, encode: Callable[[str], bytes]) -> None:
    rows = [{**ROW, "output": "Äpfel \u2028 und\nBirnen 🍐"}, OTHER]
    assert rows_of(file_of(encode(json.dumps(rows, ensure_ascii=False, indent=1)))) == rows


def test_a_whole_character_written_as_two_halves_is_one(file_of: FileOf) -> None:
    assert rows_of(file_of(r'[{"output": "\ud83c\udf50"}]')) == [{"output": "🍐"}]


def test_a_bad_line_is_one_bad_row(file_of: FileOf) -> None:
    good = json.dumps(ROW).encode()
    lines = [
        good,
        b"oops",
        b'{"output": "caf\xe9"}',
        b"",
        good[:-4],
        b"[" * 100_000,
        b"9" * 5000,
        b"[1]",
        good,
    ]
    found = rows_of(file_of(b"\n".join(lines), "data.jsonl"))
    assert [row.reason if isinstance(row, BadRow) else row for row in found] == [
        ROW,
        "line is not JSON",
        "line is not UTF-8",
        "line is not JSON",
        "row is nested too deeply",
        "a number is too long",
        [1],
        ROW,
    ]
    assert [row.line for row in found if isinstance(row, BadRow)] == [2, 3, 5, 6, 7]
    assert found[1].text == "oops"


def test_a_first_line_with_a_broken_character_is_a_bad_row_as_any_other(file_of: FileOf) -> None:
    path = file_of(b'{"output": "caf\xe9"}\n' + json.dumps(ROW).encode(), "data.jsonl")
    assert rows_of(path) == [BadRow("line is not UTF-8", '{"output": "caf\ufffd"}', 1), ROW]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"instruction": oops}\n{"instruction": "a"}', "line 1, column 17: not JSON"),
        ('\n\n{"instruction": "a"\n{"instruction": "a"}', "line 3, column 20: not JSON"),
        ("null\n{}", "one object a line"),
    ],
)
def test_a_first_line_that_is_no_row_is_another_format(file_of: FileOf, content: str, says: str) -> None:
    assert says in complaint(lambda: read_lines_of(content.encode()))


def test_a_row_of_ten_megabytes_is_a_row(file_of: FileOf) -> None:
    row = {**ROW, "output": "ü" * 5_000_000}
    assert rows_of(file_of(json.dumps([row, OTHER], ensure_ascii=False))) == [row, OTHER]
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in (OTHER, row, OTHER))
    assert rows_of(file_of(lines)) == [OTHER, row, OTHER]


def test_a_row_without_end_is_refused_in_a_list_and_set_aside_as_a_line() -> None:
    endless = b'{"output": "' + b"x" * (limits.MAX_ROW_BYTES + (4 << 20))
    text = complaint(lambda: list(read_json_list(io.BytesIO(b"[\n" + endless + b'"}]'), "file")))
    assert text.startswith("file, line 2, column 1: ")
    assert "longer than 64 MiB" in text
    lines = [json.dumps(ROW).encode(), endless, json.dumps(OTHER).encode()]
    assert read_lines_of(b"\n".join(lines)) == [ROW, BadRow(limits.TOO_LONG, "", 2), OTHER]


def test_real_rows_are_read_as_the_json_module_reads_them(shared_data: Path) -> None:
    for name in ("random_9k", "dolly_3k"):
        path = shared_data / f"{name}.json"
        assert rows_of(path) == json.loads(path.read_text(encoding="utf-8"))
