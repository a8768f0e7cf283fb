"""Rows out of JSON: a list that is parsed as it is read, or an object a line."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from alpagasus_ray.corpus.rows import MAX_ROW_BYTES, TOO_LONG, BadRow
from alpagasus_ray.corpus.source_files import ByteStream, SourceFile, read_lines
from alpagasus_ray.errors import UserError

CHUNK_BYTES = 1 << 20
WANTED = "a JSON list of rows, or one object a line, is expected"
_DECODER = json.JSONDecoder()
_BLANKS = re.compile(r"[ \t\n\r]*")
_LONGEST_WORD = len("-Infinity")
"""A text that ends within a word or a number can go on with the next chunk."""


def read_json_rows(file: SourceFile) -> Iterator[Any]:
    """Yield the rows of a file that holds one JSON list, or one JSON object a line, as its start shows.

    Raises UserError with line and column where a list stops being JSON. A line that is not JSON is a
    BadRow, unless it is the first: then the file is something else.
    """
    with file.open() as stream:
        start = stream.read(CHUNK_BYTES)
        is_list = start.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")[:1] != b"{"
        continued = _Continued(start, stream)
        yield from read_json_list(continued, file.name) if is_list else read_json_lines(continued, file.name)


def read_json_list(stream: ByteStream, name: str) -> Iterator[Any]:
    """Yield the values of a JSON list, of which one is held in memory at a time.

    Raises UserError with the line and the column where the text stops being a list.
    """
    text = _Text(stream, name)
    if text.next() != "[":
        text.value()  # says what is wrong with what is no JSON at all
        raise UserError(f"{name}: {WANTED}, such as Alpaca's alpaca_data.json")
    text.position += 1
    if text.next() == "]":
        text.position += 1
    else:
        while True:
            yield text.value()
            after = text.next()
            if after not in (",", "]"):
                raise text.error("Expecting ',' delimiter")
            text.position += 1
            if after == "]":
                break
    if text.next():
        raise text.error("Extra data")


def read_json_lines(stream: ByteStream, name: str) -> Iterator[Any]:
    """Yield the value of every line that is not blank; a BadRow where a line has none.

    Raises UserError where the first of them is no object.
    """
    is_first = True
    for number, line in read_lines(stream):
        if line is not None and not line.strip():
            continue
        if is_first:
            _check_first(line, name, number)
            is_first = False
        yield BadRow(TOO_LONG, "", number) if line is None else _line_value(line, number)


def _line_value(line: bytes, number: int) -> Any:
    shown = line.decode("utf-8", "replace").rstrip("\r\n")
    try:
        return _DECODER.decode(line.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError:
        return BadRow("line is not UTF-8", shown, number)
    except json.JSONDecodeError:
        return BadRow("line is not JSON", shown, number)
    except ValueError:
        return BadRow("a number is too long", shown, number)
    except RecursionError:
        return BadRow("row is nested too deeply", shown, number)


def _check_first(line: bytes | None, name: str, number: int) -> None:
    if line is None:
        raise UserError(f"{name}, line {number}: {TOO_LONG}; {WANTED}")
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").rstrip("\r\n")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name}, line {number}, column {error.colno}: not JSON ({error.msg}); {WANTED}"
        ) from error
    except (ValueError, RecursionError):
        return  # JSON all the same
    if not isinstance(value, dict):
        raise UserError(f"{name}, line {number}: {WANTED}")


class _Continued:
    """A stream whose start was read already."""

    def __init__(self, start: bytes, stream: ByteStream) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        start, self._start = self._start, b""
        return start or self._stream.read(size)


class _Text:
    """The part of a text that is being read, and where in the file it stands."""

    def __init__(self, stream: ByteStream, name: str) -> None:
        self.position = 0
        """Of the next character in `_text`."""
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._is_whole = False
        self._line, self._column = 1, 1  # of the first character of _text
        self._num_bytes = 0

    def next(self) -> str:
        """Return the next character that is not blank, and stay before it; empty at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self.position)
            self.position = blanks.end() if blanks else self.position
            if self.position < len(self._text) or self._is_whole:
                return self._text[self.position : self.position + 1]
            self._read_on()

    def value(self) -> Any:
        """Return the next JSON value and go behind it; raises UserError where there is none."""
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self.position)
            except json.JSONDecodeError as error:
                if self._is_whole or not self._may_go_on(error):
                    raise self.error(error.msg, error.pos) from error
            except ValueError as error:
                raise self._refused("a number there is too long to be instruction data") from error
            except RecursionError as error:
                raise self._refused("nested too deeply to be instruction data") from error
            else:
                # A number at the end of what was read may have more digits.
                if self._is_whole or end + _LONGEST_WORD < len(self._text):
                    self.position = end
                    return value
            if len(self._text) - self.position > MAX_ROW_BYTES:
                raise self._refused(f"the {TOO_LONG}; is a quote or a bracket never closed?")
            self._read_on()

    def error(self, message: str, position: int | None = None) -> UserError:
        """Return an error that names a place, by itself the next character."""
        where = self._place(self.position if position is None else position)
        if self._is_whole and not self._num_bytes:
            return UserError(f"{where}: the file is empty; {WANTED}")
        return UserError(f"{where}: not JSON ({message}); {WANTED}")

    def _refused(self, why: str) -> UserError:
        return UserError(f"{self._place(self.position)}: {why}")

    def _place(self, position: int) -> str:
        line, column = self._line_and_column(self._text[:position])
        return f"{self._name}, line {line}, column {column}"

    def _line_and_column(self, passed: str) -> tuple[int, int]:
        newlines = passed.count("\n")
        column = len(passed) - passed.rfind("\n") if newlines else self._column + len(passed)
        return self._line + newlines, column

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether it may be for want of more text that this is no JSON."""
        return error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _LONGEST_WORD

    def _read_on(self) -> None:
        """Drop what was passed, and read at least as much as is left: each character a few times at most."""
        self._line, self._column = self._line_and_column(self._text[: self.position])
        left = self._text[self.position :]
        self._text, self.position = left, 0
        data = self._stream.read(max(CHUNK_BYTES, len(left)))
        pending = self._decoder.getstate()[0]
        try:
            more = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at_byte = self._num_bytes - len(pending) + error.start
            self._text += error.object[: error.start].decode("utf-8")
            raise UserError(f"{self._place(len(self._text))}: not UTF-8 at byte {at_byte}") from error
        if self._num_bytes == len(pending):  # nothing was decoded before
            more = more.removeprefix("\ufeff")
        self._num_bytes += len(data)
        self._text += more
        self._is_whole = not data
