"""How a paid reply reaches the ledger: one writer a process, each with segments of its own.

No two writers ever append to one file, so that no lock is needed on any file system.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger_files import LedgerFiles
from alpagasus_ray.llm.ledger_names import segment_name
from alpagasus_ray.llm.segments import (
    EMPTY,
    INDEX_SUFFIX,
    SEGMENT_SUFFIX,
    Entry,
    IndexBuilder,
    Place,
)

MAX_SEGMENT_ENTRIES = 1_000_000
MIN_UNINDEXED = 16_384
"""An index is written anew after so many entries, and after a sixteenth of those in it: readers hold
the others in memory."""
MAX_IDLE_S = 600.0
"""A segment that was left alone for longer is not written to again: compaction takes it for finished."""


class Writer(Protocol):
    """Keeps entries."""

    name: str
    """The segment that no reader need look at: `find` knows it."""
    num_stored: int
    """Entries that a listing which is asked for now will show."""

    def write(self, entry: Entry) -> None:
        """Take one in; raises OSError when entries cannot be stored."""
        ...

    def flush(self) -> None:
        """Return when every entry taken in so far is stored; raises OSError when that is not possible."""
        ...

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that was kept by this writer and that no reader can find yet."""
        ...

    def seen(self, num_stored: int) -> None:
        """Let go of the first entries, so many: readers have found them."""
        ...

    def close(self) -> None:
        """Make everything readable and end; raises OSError when that is not possible."""
        ...


class LocalWriter:
    """Appends to a file: on return from `write` the operating system has the entry, and outlives us."""

    num_stored = 0

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
        is_idle = now_s - self._written_s > MAX_IDLE_S
        if self._segment is not None and (is_full or is_idle or self._is_gone()):
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

    def flush(self) -> None:
        """Do nothing: `write` leaves nothing to do."""

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that is in the segment which is being written.

        Raises FileNotFoundError, once, where a compaction has merged it into another after a long rest.
        """
        places = [self._places[key]] if key in self._places else self._index.places(key)
        try:
            return self._files.entry_at(self.name, places, key)
        except FileNotFoundError:
            self.close()
            raise

    def seen(self, num_stored: int) -> None:
        """Do nothing: readers take no segment over before it is closed."""

    def close(self) -> None:
        """Write the index and close the segment."""
        if self._segment is None:
            return
        is_gone = self._is_gone()
        os.close(self._segment)
        self._segment = None
        if not is_gone:
            self._write_index(is_closed=True)
        self.name, self._index, self._unindexed, self._places = "", EMPTY, IndexBuilder(), {}

    def _start(self) -> None:
        self.name, self._size_bytes = segment_name(), 0
        self._index, self._unindexed, self._places = EMPTY, IndexBuilder(), {}
        path = Path(self._files.path(self.name + SEGMENT_SUFFIX))
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._segment = os.open(path, flags, 0o644)

    def _is_gone(self) -> bool:
        assert self._segment is not None
        return os.fstat(self._segment).st_nlink == 0

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
