"""How a paid reply reaches a ledger in an object store, where nothing can be appended to."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger_files import LedgerFiles
from alpagasus_ray.llm.ledger_names import segment_name
from alpagasus_ray.llm.segments import EMPTY, INDEX_SUFFIX, SEGMENT_SUFFIX, Entry, Index, IndexBuilder, Place

FLUSH_EVERY_S = 0.5
"""While the store answers, a reply is nowhere but in memory for so long, and in flight for one request."""
MAX_RETRY_DELAY_S = 5.0
GIVE_UP_AFTER_S = 60.0
"""A store that has taken nothing for so long is said to be gone; storing is tried all the same."""
MAX_PARTS = 64
MAX_PARTS_BYTES = 1 << 24
DELETES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Part:
    """A small object. It is stored under its name as it is, however often that has to be tried."""

    name: str
    entries: list[Entry]

    def to_bytes(self) -> bytes:
        return b"".join(entry.to_line() for entry in self.entries)


class ObjectWriter:
    """Writes small objects, half a second's entries each, and puts them together now and then.

    One thread stores, another puts together. Objects never change. A crash loses what was taken in during
    the last half second; a store that fails for a while is asked again, and nothing is lost.
    """

    def __init__(self, files: LedgerFiles) -> None:
        self.name = ""
        self.num_stored = 0
        self._files = files
        self._prefix = segment_name()
        self._num_files = 0
        # Holds all below but the parts, which only the thread that stores touches.
        self._changed = threading.Condition()
        self._num_taken = self._num_seen = 0
        self._waiting: list[Entry] = []
        self._stored_keys: list[bytes] = []
        self._unseen: dict[bytes, Reply] = {}
        self._failure: Exception | None = None
        self._failing_since_s = 0.0
        self._retry_delay_s = FLUSH_EVERY_S
        self._is_hurried = self._is_ending = False
        self._unstored: _Part | None = None
        self._parts: list[_Part] = []
        self._parts_bytes = 0
        self._merging: threading.Thread | None = None
        self._thread = threading.Thread(target=self._store_now_and_then, name="ledger", daemon=True)
        self._thread.start()

    def write(self, entry: Entry) -> None:
        """Take an entry in. Raises OSError when the store has been failing for GIVE_UP_AFTER_S."""
        with self._changed:
            self._waiting.append(entry)
            self._unseen[entry.key] = entry.reply
            self._num_taken += 1
            self._raise_if_given_up()

    def flush(self) -> None:
        """Return when all that was taken in is stored; raises OSError like `write`."""
        with self._changed:
            wanted = self._num_taken
            while self.num_stored < wanted:
                self._raise_if_given_up()
                self._is_hurried = True
                self._changed.notify_all()
                self._changed.wait(MAX_RETRY_DELAY_S)

    def find(self, key: bytes) -> Reply | None:
        """Return a reply that is not in the store yet, or that no listing has shown yet."""
        return self._unseen.get(key)

    def seen(self, num_stored: int) -> None:
        """Let go of the first entries, so many: a listing has shown them."""
        with self._changed:
            count = num_stored - self._num_seen
            for key in self._stored_keys[:count]:
                self._unseen.pop(key, None)
            del self._stored_keys[:count]
            self._num_seen = num_stored

    def close(self) -> None:
        """Store what is left, and put this writer's objects together.

        Raises OSError when anything could not be stored: a store that fails is asked again as in `flush`, and
        once more at the end.
        """
        with suppress(OSError):
            self.flush()
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        self._thread.join()
        if self._merging is not None:
            self._merging.join()
        self._store()
        if self._failure is not None:
            raise self._error(self._failure)
        self._put_together(self._parts)

    def _error(self, failure: Exception) -> OSError:
        return OSError(f"the ledger {self._files.uri} cannot be written: {failure}")

    def _raise_if_given_up(self) -> None:
        failing_s = time.monotonic() - self._failing_since_s
        if self._failure is not None and failing_s >= GIVE_UP_AFTER_S:
            raise self._error(self._failure) from self._failure

    def _is_wanted(self) -> bool:
        return self._is_ending or (self._is_hurried and self._failure is None)

    def _store_now_and_then(self) -> None:
        while True:
            with self._changed:
                delay_s = FLUSH_EVERY_S if self._failure is None else self._retry_delay_s
                self._changed.wait_for(self._is_wanted, timeout=delay_s)
                if self._is_ending:
                    return
            self._store()
            is_due = len(self._parts) >= MAX_PARTS or self._parts_bytes >= MAX_PARTS_BYTES
            if is_due and (self._merging is None or not self._merging.is_alive()):
                parts, self._parts, self._parts_bytes = self._parts, [], 0
                merge = threading.Thread(target=self._put_together, args=(parts,), name="merge", daemon=True)
                self._merging = merge
                merge.start()

    def _store(self) -> None:
        """Store all that waits: first, under its name, what could not be stored before."""
        while (part := self._next_part()) is not None:
            data = part.to_bytes()
            try:
                self._files.write_bytes(part.name + SEGMENT_SUFFIX, data)
            except Exception as error:  # whatever the store's library raises: it must reach the one who asks
                self._failed(error)
                return
            self._unstored = None
            self._parts.append(part)
            self._parts_bytes += len(data)
            with self._changed:
                self._stored_keys += [entry.key for entry in part.entries]
                self.num_stored += len(part.entries)
                self._failure = None
                self._changed.notify_all()

    def _next_part(self) -> _Part | None:
        if self._unstored is None:
            with self._changed:
                entries, self._waiting, self._is_hurried = self._waiting, [], False
            self._unstored = _Part(self._next_name(), entries) if entries else None
        return self._unstored

    def _failed(self, error: Exception) -> None:
        with self._changed:
            if self._failure is None:
                self._failing_since_s, self._retry_delay_s = time.monotonic(), FLUSH_EVERY_S
            else:
                self._retry_delay_s = min(2 * self._retry_delay_s, MAX_RETRY_DELAY_S)
            self._failure = error
            self._changed.notify_all()

    def _put_together(self, parts: list[_Part]) -> None:
        """Replace small objects by a larger one with an index; both hold the same for a moment.

        Where the store fails all of them stay, or some: a compaction does the rest.
        """
        if not parts:
            return
        data, index = joined([entry for part in parts for entry in part.entries])
        name = self._next_name()
        with suppress(Exception):  # as in _store; and nothing is lost
            self._files.write_bytes(name + SEGMENT_SUFFIX, data)
            self._files.write_bytes(name + INDEX_SUFFIX, index.to_bytes())
            with ThreadPoolExecutor(DELETES_AT_ONCE) as pool:
                list(pool.map(self._remove, parts))

    def _remove(self, part: _Part) -> None:
        with suppress(FileNotFoundError):  # merged by another's compaction
            self._files.remove(part.name + SEGMENT_SUFFIX)

    def _next_name(self) -> str:
        with self._changed:
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
