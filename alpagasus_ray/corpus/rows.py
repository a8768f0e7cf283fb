"""What every reader of instruction data gives: the rows one by one, and a note where a row cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ROW_MIB = 64
MAX_ROW_BYTES = MAX_ROW_MIB << 20
"""Readers hold one row in memory. No instruction is as long as this; a file in which a quote or a bracket is
never closed is one endless row."""
TOO_LONG = f"row is longer than {MAX_ROW_MIB} MiB"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A place in the file where a row should be and cannot be read: set aside, the others go on."""

    reason: str
    """In a few fixed words, to be counted."""
    text: str
    """What stands there, as far as it can be shown."""
    line: int | None = None
    """Counted from 1; None in a Parquet file, which has none."""
