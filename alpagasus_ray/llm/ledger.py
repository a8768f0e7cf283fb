"""The ledger of paid replies: a reply is paid for once, whoever asks again.

A folder, local or in an object store, of segments (segments.py). On a local disk a reply is handed to the
operating system before its row counts as done, so a killed process loses none; on an object store it is
there within a second while the store answers, and in any case when `flush` returns. A line that a crash cut
in half is left out, and said by `alpagasus ledger verify`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger_files import FileState, LedgerFiles
from alpagasus_ray.llm.ledger_names import segment_name
from alpagasus_ray.llm.ledger_objects import GIVE_UP_AFTER_S, ObjectWriter
from alpagasus_ray.llm.ledger_writers import LocalWriter, Writer
from alpagasus_ray.llm.segments import EMPTY, Entry, Place, prefixes_of, read_lines

T = TypeVar("T")
REFRESH_SHARE = 0.1
"""Of a process's time that looking for other writers' entries may take."""
MAX_LOOKS = 20
"""In a row, where each finds a file gone that its listing still had: compactions are minutes apart."""
LOOK_AGAIN_S = 1.0
READERS = 32
"""Requests to an object store at a time when many replies are looked up."""


class _Segment:
    """What is known of one segment: its index, and the entries that the index has not got yet."""

    def __init__(self) -> None:
        self.index = EMPTY
        self.fresh: dict[bytes, Place] = {}
        self.read_up_to = 0
        self.state: tuple[FileState, FileState | None] | None = None
        self.index_state: FileState | None = None
        """Of `index`, where it came from a file."""

    def places(self, key: bytes) -> list[Place]:
        place = self.fresh.get(key)
        return self.index.places(key) if place is None else [place]


class Ledger:
    """Replies by request key. What is indexed stays on disk; only the newest keys are held in memory.

    Any thread may look things up and refresh; recording is for one thread at a time.
    """

    def __init__(self, uri: str | Path) -> None:
        """Open a ledger; raises UserError where it cannot be read. Nothing is made before `record`."""
        self.files = LedgerFiles(str(uri))
        self._segments: dict[str, _Segment] = {}
        self._writer: Writer | None = None
        self._refreshed_s = self._refresh_took_s = 0.0
        self._refreshing = threading.Lock()
        self._begun = self._done = 0
        try:
            self.refresh()
        except OSError as error:
            raise UserError(f"the ledger {self.files.uri} cannot be read: {error}") from error

    def __len__(self) -> int:
        """Return the number of entries, those that stand in two segments counted twice."""
        return sum(len(segment.index) + len(segment.fresh) for segment in list(self._segments.values()))

    def prepare(self) -> None:
        """Raise UserError where nothing could be kept: before anything is paid for."""
        name = f"{segment_name()}.test"
        try:
            self.files.write_bytes(name, b"test")
            self.files.remove(name)
        except OSError as error:
            raise UserError(f"the ledger {self.files.uri} cannot be written: {error}") from error

    def refresh_now_and_then(self) -> None:
        """Refresh, unless that would take more than REFRESH_SHARE of the time."""
        with self._refreshing:
            if time.monotonic() - self._refreshed_s >= self._refresh_took_s / REFRESH_SHARE:
                self._refresh()

    def refresh(self) -> None:
        """Take in what other writers have added since the last look; reads only what is new.

        Threads that ask at once share one: one that began after each of them had asked.
        """
        asked_at = self._begun
        with self._refreshing:
            if self._done <= asked_at:
                self._refresh()

    def _refresh(self) -> None:
        self._begun += 1
        number, started_s = self._begun, time.monotonic()
        for _ in range(MAX_LOOKS):
            try:
                self._look()
                break
            except FileNotFoundError:
                # Merged away between the listing and the reading: the next listing has what it became.
                continue
        self._refreshed_s = time.monotonic()
        self._refresh_took_s = self._refreshed_s - started_s
        self._done = number

    def _look(self) -> None:
        writer = self._writer
        num_stored = 0 if writer is None else writer.num_stored
        listing = self.files.listing()
        for name, state in listing.segments.items():
            if writer is None or name != writer.name:
                self._take_in(name, state, listing.indexes.get(name))
        for name in self._segments.keys() - listing.segments.keys():
            del self._segments[name]
            self.files.forget(name)
        if writer is not None:
            writer.seen(num_stored)

    def lookup(self, key: str) -> Reply | None:
        """Return the reply kept under a request's key, or None."""
        return self._while_merging(lambda: self._find(bytes.fromhex(key)))

    def lookup_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the replies kept under many keys: the others are not there."""
        there = sorted(self.known(keys))
        if self.files.is_local or len(there) < 2:
            found: Iterable[Reply | None] = map(self.lookup, there)
        else:
            with ThreadPoolExecutor(READERS) as pool:
                found = list(pool.map(self.lookup, there))
        return {key: reply for key, reply in zip(there, found, strict=True) if reply is not None}

    def find(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the replies kept under many keys, by other writers too.

        A store that fails is asked again. Raises OSError when it has been failing for a minute.
        """
        until_s = time.monotonic() + GIVE_UP_AFTER_S
        while True:
            try:
                self.refresh_now_and_then()
                return self.lookup_many(keys)
            except OSError:
                if self.files.is_local or time.monotonic() >= until_s:
                    raise
                time.sleep(LOOK_AGAIN_S)

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return which keys are there, without reading replies (see Index.holds for how sure that is)."""
        return self._while_merging(lambda: self._known(keys)) if keys else set()

    def _known(self, keys: Sequence[str]) -> set[str]:
        prefixes = prefixes_of(keys)
        raw = [bytes.fromhex(key) for key in keys]
        found: set[str] = set()
        for segment in list(self._segments.values()):
            if fresh := segment.fresh:
                found.update(key for key, one in zip(keys, raw, strict=True) if one in fresh)
            if len(segment.index):
                found.update(keys[place] for place in segment.index.holds(prefixes).nonzero()[0])
        if (writer := self._writer) is not None:
            found.update(key for key, one in zip(keys, raw, strict=True) if writer.find(one))
        return found

    def record(self, key: str, reply: Reply, model: str | None = None) -> None:
        """Keep a reply. Raises OSError when that is not possible (a full disk, a store that is gone).

        A store that is gone for a while only delays things: the reply is kept when it is back.
        """
        if self._writer is None:
            self._writer = LocalWriter(self.files) if self.files.is_local else ObjectWriter(self.files)
        segment = self._writer.name
        self._writer.write(Entry(bytes.fromhex(key), reply, model, round(time.time(), 3)))
        if segment not in ("", self._writer.name):
            self.refresh()  # from now on the one that the writer has left is found like any other's

    def flush(self) -> None:
        """Return when all that this process has recorded so far is stored: at once on a local disk.

        Raises OSError where that is not possible: a store that has been failing for a minute.
        """
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End this process's writing and let go of files. Raises OSError when replies could not be kept."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
        self.files.close()

    def _take_in(self, name: str, state: FileState, index_state: FileState | None) -> None:
        segment = self._segments.setdefault(name, _Segment())
        if segment.state == (state, index_state):
            return
        if index_state is not None and segment.index_state != index_state:
            index = self.files.index(name, index_state)
            # One that does not fit may be newer than the listing: what is known already stays.
            if index is not None and index.fits(state.size_bytes):
                segment.index, segment.index_state = index, index_state
                covered = index.covered_bytes
                segment.fresh = {key: at for key, at in segment.fresh.items() if at.offset >= covered}
                segment.read_up_to = max(segment.read_up_to, covered)
        if state.size_bytes > segment.read_up_to:
            self._read_tail(name, segment)
        segment.state = (state, index_state)

    def _read_tail(self, name: str, segment: _Segment) -> None:
        """Read the lines that the index does not know yet; a line without an end may still get one."""
        for line in read_lines(self.files.lines(name, segment.read_up_to), segment.read_up_to):
            if not line.is_whole:
                break
            if line.entry is not None:
                segment.fresh[line.entry.key] = line.place
            segment.read_up_to = line.place.offset + line.place.length

    def _find(self, key: bytes) -> Reply | None:
        writer = self._writer
        if writer is not None and (reply := writer.find(key)) is not None:
            return reply
        for name, segment in list(self._segments.items()):
            if (places := segment.places(key)) and (reply := self.files.entry_at(name, places, key)):
                return reply
        return None

    def _while_merging(self, read: Callable[[], T]) -> T:
        """Read once more where a segment was merged into another since the last look."""
        for _ in range(MAX_LOOKS):
            with suppress(FileNotFoundError):
                return read()
            self.refresh()
        return read()
