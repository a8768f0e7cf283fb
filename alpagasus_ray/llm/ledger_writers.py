"""How a paid reply reaches the ledger: one writer a process, each with segments of its own.

No two writers ever append to one file, so that no lock is needed on any file system.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Protocol

from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger_files import LedgerFiles
from alpagasus_ray.llm.segments import (
    EMPTY,
    INDEX_SUFFIX,
    SEGMENT_SUFFIX,
    Entry,
    Index,
    IndexBuilder,
    Place,
)

MAX_SEGMENT_ENTRIES = 1_000_000
MIN_UNINDEXED = 16_384
"""An index is written anew after so many entries, and after a sixteenth of those in it: readers hold
the others in memory."""
MAX_IDLE_S = 600.0
"""A segment that was left alone for longer is not written to again: compaction takes it for finished."""
FLUSH_EVERY_S = 0.5
"""On an object store a reply is in flight or in memory, and nowhere else, for no longer than twice this."""
MAX_PARTS = 64
MAX_PARTS_BYTES = 1 << 24


class Writer(Protocol):
    """Keeps entries."""

    def write(self, entry: Entry) -> None:
        """Keep one; raises OSError when that is not possible."""
        ...

    name: str
    """The segment that no reader need look at: `find` knows it."""

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that was kept by this writer and that no reader can find yet."""
        ...

    def close(self) -> None:
        """Make everything readable and end; raises OSError when that is not possible."""
        ...


def segment_name() -> str:
    """Return a name that no other writer has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


class LocalWriter:
    """Appends to a file: on return from `write` the operating system has the entry, and outlives us."""

    def __init__(self, files: LedgerFiles) -> None:
        self._files = files
        self._segment: int | None = None
        self.name = ""
        self._size_bytes = 0
        self._written_s = 0.0
        self._index, self._unindexed = EMPTY, IndexBuilder()
        self._places: dict[bytes, Place] = {}

    def write(self, entry: Entry) -> None:
        """Keep an entry; on return it outlives this process. Raises OSError when the disk is full."""
        now_s = time.monotonic()
        is_full = len(self._index) + len(self._unindexed) >= MAX_SEGMENT_ENTRIES
        if self._segment is not None and (is_full or now_s - self._written_s > MAX_IDLE_S):
            self.close()
        if self._segment is None:
            self._start()
        line = entry.to_line()
        # A leading newline closes a line that a full disk cut short.
        self._append(b"\n" + line)
        self._written_s = now_s
        place = Place(self._size_bytes - len(line), len(line))
        self._unindexed.add(entry.key, place)
        self._places[entry.key] = place
        if len(self._unindexed) >= max(MIN_UNINDEXED, len(self._index) // 16):
            self._write_index(is_closed=False)

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that is in the segment which is being written."""
        places = [self._places[key]] if key in self._places else self._index.places(key)
        return self._files.entry_at(self.name, places, key)

    def close(self) -> None:
        """Write the index and close the segment."""
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None
            self._write_index(is_closed=True)
            self.name, self._index = "", EMPTY

    def _start(self) -> None:
        self.name, self._size_bytes = segment_name(), 0
        path = Path(self._files.path(self.name + SEGMENT_SUFFIX))
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._segment = os.open(path, flags, 0o644)

    def _append(self, data: bytes) -> None:
        assert self._segment is not None
        while data:
            written = os.write(self._segment, data)
            self._size_bytes += written
            data = data[written:]

    def _write_index(self, *, is_closed: bool) -> None:
        self._index = self._index.extended(self._unindexed, self._size_bytes, is_closed=is_closed)
        self._files.write_bytes(self.name + INDEX_SUFFIX, self._index.to_bytes())
        self._unindexed, self._places = IndexBuilder(), {}


class ObjectWriter:
    """Writes small objects, half a second's entries each, and puts them together now and then.

    Objects never change. A crash loses what was taken in during the last second.
    """

    def __init__(self, files: LedgerFiles) -> None:
        self.name = ""
        self._files = files
        self._prefix = segment_name()
        self._lock = threading.Lock()
        self._waiting: list[Entry] = []
        self._pending: dict[bytes, Reply] = {}
        self._parts: list[tuple[str, list[Entry]]] = []
        self._parts_bytes = self._num_files = 0
        self._failure: Exception | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._flush_now_and_then, name="ledger", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> None:
        """Take an entry in; it is stored within a second. Raises OSError when an earlier one was not."""
        if self._failure is not None:
            raise OSError(f"the ledger {self._files.uri} cannot be written: {self._failure}")
        with self._lock:
            self._waiting.append(entry)
            self._pending[entry.key] = entry.reply

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that is not in the store yet."""
        return self._pending.get(key)

    def close(self) -> None:
        """Write what is left, and put this writer's objects together."""
        self._ending.set()
        self._thread.join()
        self._flush()
        if self._failure is not None:
            raise OSError(f"the ledger {self._files.uri} cannot be written: {self._failure}")
        self._put_together()

    def _flush_now_and_then(self) -> None:
        while not self._ending.wait(FLUSH_EVERY_S):
            self._flush()
            if len(self._parts) >= MAX_PARTS or self._parts_bytes >= MAX_PARTS_BYTES:
                self._put_together()

    def _flush(self) -> None:
        with self._lock:
            entries, self._waiting = self._waiting, []
        if not entries:
            return
        name, data = self._next_name(), b"".join(entry.to_line() for entry in entries)
        try:
            self._files.write_bytes(name + SEGMENT_SUFFIX, data)
        except Exception as error:  # whatever the store's library raises: it must reach the one who asks
            self._failure = error
            return
        self._parts.append((name, entries))
        self._parts_bytes += len(data)
        with self._lock:
            for entry in entries:
                self._pending.pop(entry.key, None)

    def _put_together(self) -> None:
        """Replace small objects by a larger one with an index; both hold the same for a moment."""
        parts, self._parts, self._parts_bytes = self._parts, [], 0
        if not parts:
            return
        data, index = joined([entry for _, entries in parts for entry in entries])
        name = self._next_name()
        try:
            self._files.write_bytes(name + SEGMENT_SUFFIX, data)
            self._files.write_bytes(name + INDEX_SUFFIX, index.to_bytes())
            for part, _ in parts:
                self._files.remove_segment(part)
        except Exception as error:  # as above: a thread's own error would be seen by nobody
            self._failure = error

    def _next_name(self) -> str:
        self._num_files += 1
        return f"{self._prefix}-{self._num_files:06d}"


def joined(entries: list[Entry]) -> tuple[bytes, Index]:
    """Return a finished segment with these entries, and its index."""
    data, builder = bytearray(), IndexBuilder()
    for entry in entries:
        line = entry.to_line()
        builder.add(entry.key, Place(len(data), len(line)))
        data += line
    return bytes(data), EMPTY.extended(builder, len(data), is_closed=True)
