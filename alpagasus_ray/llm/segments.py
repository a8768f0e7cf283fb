"""The ledger's files: segments of lines, one paid reply each, and the index of a segment.

A segment is `NAME.jsonl`, a line an entry: `{"key": ..., "model": ..., "at_s": ..., "reply": {...}}`. Its
index is `NAME.index`, an Arrow file with the first 8 bytes of each key, sorted, and its line's place. It is
read through a memory map: a process holds none of it, and all processes of a node share the pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alpagasus_ray.llm.chat import Reply

SEGMENT_SUFFIX = ".jsonl"
INDEX_SUFFIX = ".index"
Prefixes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Entry:
    """One paid reply."""

    key: bytes
    """The 32 bytes of Request.key."""
    reply: Reply
    model: str | None = None
    at_s: float | None = None
    """When it was paid for, in seconds since 1970."""

    def to_line(self) -> bytes:
        """Return the line that a segment holds, newline included."""
        values = {
            "key": self.key.hex(),
            "model": self.model,
            "at_s": self.at_s,
            "reply": self.reply.to_dict(),
        }
        return json.dumps(values).encode() + b"\n"


def entry_of_line(line: bytes) -> Entry | None:
    """Return the entry in a whole line; None for a line that holds none, whoever wrote it."""
    try:
        values = json.loads(line)
        reply = Reply(**values["reply"])
        key = bytes.fromhex(values["key"])
        if len(key) != 32 or not isinstance(reply.text, str):
            return None
        return Entry(key, reply, values.get("model"), values.get("at_s"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry's line lies in its segment, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment as it was found."""

    place: Place
    entry: Entry | None
    """None: the line holds no entry."""
    is_whole: bool
    """False: a crash cut it before its newline."""
    raw: bytes


def read_lines(lines: Iterable[bytes], start: int) -> Iterator[Line]:
    """Yield the lines that begin at the byte `start` of a segment, empty ones left out."""
    offset = start
    for line in lines:
        is_whole = line.endswith(b"\n")
        if line.strip():
            yield Line(Place(offset, len(line)), entry_of_line(line) if is_whole else None, is_whole, line)
        offset += len(line)


def prefix_of(key: bytes) -> int:
    """Return the number that an index is sorted by: the first 8 bytes of a key."""
    return int.from_bytes(key[:8], "big")


def prefixes_of(keys: Iterable[str]) -> Prefixes:
    """Return the numbers of many keys, given as hexadecimal digits."""
    return np.array([int(key[:16], 16) for key in keys], dtype=np.uint64)


@dataclass(frozen=True)
class Index:
    """The places of a segment's entries, sorted by the first 8 bytes of their keys."""

    prefixes: Prefixes
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]
    covered_bytes: int
    """How much of the segment, from its start, the index knows."""
    is_closed: bool
    """Its writer has ended: nothing more will be added."""

    def __len__(self) -> int:
        return len(self.prefixes)

    def fits(self, size_bytes: int) -> bool:
        """Return whether it can be the index of a segment of this size, which something may have cut."""
        return self.covered_bytes == size_bytes if self.is_closed else self.covered_bytes <= size_bytes

    def places(self, key: bytes) -> list[Place]:
        """Return where this key may be: its line has to be read to be sure."""
        prefix = np.uint64(prefix_of(key))
        first = int(np.searchsorted(self.prefixes, prefix, "left"))
        places = []
        while first < len(self.prefixes) and self.prefixes[first] == prefix:
            places.append(Place(int(self.offsets[first]), int(self.lengths[first])))
            first += 1
        return places

    def holds(self, prefixes: Prefixes) -> npt.NDArray[np.bool_]:
        """Return which of many keys' numbers are in it; wrong for one key in 10**12 at 10**7 entries."""
        if not len(self.prefixes):
            return np.zeros(len(prefixes), dtype=np.bool_)
        places = np.minimum(np.searchsorted(self.prefixes, prefixes), len(self.prefixes) - 1)
        found: npt.NDArray[np.bool_] = self.prefixes[places] == prefixes
        return found

    def extended(self, added: IndexBuilder, covered_bytes: int, *, is_closed: bool) -> Index:
        """Return the index with more entries in it."""
        prefixes = np.concatenate([self.prefixes, np.array(added.prefixes, dtype=np.uint64)])
        order = np.argsort(prefixes, kind="stable")
        return Index(
            prefixes[order],
            np.concatenate([self.offsets, np.array(added.offsets, dtype=np.uint64)])[order],
            np.concatenate([self.lengths, np.array(added.lengths, dtype=np.uint32)])[order],
            covered_bytes,
            is_closed,
        )

    def to_bytes(self) -> bytes:
        """Return the index as an Arrow file."""
        names = {"prefix": self.prefixes, "offset": self.offsets, "length": self.lengths}
        about = {"covered_bytes": str(self.covered_bytes), "is_closed": str(int(self.is_closed))}
        table = pa.table(names).replace_schema_metadata(about)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, len(self)))
        return bytes(sink.getvalue())


class IndexBuilder:
    """Entries' places in the order in which they were written."""

    def __init__(self) -> None:
        self.prefixes: list[int] = []
        self.offsets: list[int] = []
        self.lengths: list[int] = []

    def __len__(self) -> int:
        return len(self.prefixes)

    def add(self, key: bytes, place: Place) -> None:
        """Count one more entry in."""
        self.prefixes.append(prefix_of(key))
        self.offsets.append(place.offset)
        self.lengths.append(place.length)


EMPTY = Index(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32), 0, is_closed=False)


def open_index(file: str) -> Index | None:
    """Return the index in a local file, memory-mapped; None where it cannot be read: it is made anew then."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(file))
        about = {name.decode(): int(value) for name, value in (reader.schema.metadata or {}).items()}
        columns: list[Any] = [EMPTY.prefixes, EMPTY.offsets, EMPTY.lengths]
        if reader.num_record_batches:
            columns = [column.to_numpy(zero_copy_only=True) for column in reader.get_batch(0).columns]
        prefixes, offsets, lengths = columns
        return Index(prefixes, offsets, lengths, about["covered_bytes"], bool(about["is_closed"]))
    except (pa.ArrowInvalid, OSError, KeyError, ValueError):
        return None
