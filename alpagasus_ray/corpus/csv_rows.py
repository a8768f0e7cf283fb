"""Rows out of CSV: a header, then a row a record; quoted texts may hold line breaks."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

from alpagasus_ray.corpus.rows import MAX_ROW_BYTES, MAX_ROW_MIB, BadRow
from alpagasus_ray.corpus.source_files import ByteStream, SourceFile, read_lines
from alpagasus_ray.errors import UserError

_BROKEN_BYTES = re.compile("[\udc80-\udcff]")
"""How Python's `surrogateescape` marks bytes that are not UTF-8; no UTF-8 text holds them."""


def read_csv_rows(file: SourceFile) -> Iterator[Any]:
    """Yield the records as objects of texts; a BadRow for one that does not fit the header.

    Raises UserError for a header that is missing or names a column twice, and for a quote that is never
    closed, since all rows after it would be lost.
    """
    with file.open() as stream:
        yield from _Records(stream, file.name)


class _Records:
    """The records of one file."""

    def __init__(self, stream: ByteStream, name: str) -> None:
        self._name = name
        self._lines = _texts(stream, name)
        csv.field_size_limit(MAX_ROW_BYTES)
        # Strict: a stray quote is told, and not made part of the text.
        self._reader = csv.reader(self._lines, strict=True)

    def __iter__(self) -> Iterator[Any]:
        header = self._header()
        while True:
            line = self._reader.line_num + 1
            try:
                values = next(self._reader, None)
            except csv.Error as error:
                yield self._broken(error, line)
                continue
            if values is None:
                return
            if values:  # a blank line is no record
                yield _row(header, values, line)

    def _header(self) -> list[str]:
        try:
            header = next((values for values in self._reader if values), None)
        except csv.Error as error:
            raise UserError(f"{self._name}, line {self._reader.line_num}: not CSV ({error})") from error
        if header is None:
            raise UserError(f"{self._name}: the file is empty; a header with column names is expected")
        if any(_BROKEN_BYTES.search(column) for column in header):
            raise UserError(f"{self._name}, line {self._reader.line_num}: the column names are not UTF-8")
        if twice := sorted({column for column in header if header.count(column) > 1}):
            raise UserError(f"{self._name}: the header names the column {twice[0]!r} twice")
        return header

    def _broken(self, error: csv.Error, line: int) -> BadRow:
        if "unexpected end of data" in str(error):
            raise UserError(f"{self._name}, line {line}: a quote in the row there is never closed") from error
        if "field limit" in str(error):
            raise UserError(
                f"{self._name}, line {line}: a text there is longer than {MAX_ROW_MIB} MiB; "
                "is a quote never closed?"
            ) from error
        return BadRow("row is not CSV", str(error), line)


def _row(header: list[str], values: list[str], line: int) -> Any:
    shown = ",".join(values).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if any(_BROKEN_BYTES.search(value) for value in values):
        return BadRow("row is not UTF-8", shown, line)
    if len(values) != len(header):
        more = "more" if len(values) > len(header) else "fewer"
        return BadRow(f"row has {more} fields than the header", shown, line)
    return dict(zip(header, values, strict=True))


def _texts(stream: ByteStream, name: str) -> Iterator[str]:
    for number, line in read_lines(stream):
        if line is None:
            raise UserError(f"{name}, line {number}: longer than {MAX_ROW_MIB} MiB")
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 1 else text
