"""Keeping a ledger in order: what is in it, whether all of it can be read, and fewer, larger files."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from alpagasus_ray.llm.ledger_files import FileState, LedgerFiles, Listing
from alpagasus_ray.llm.ledger_writers import MAX_SEGMENT_ENTRIES, segment_name
from alpagasus_ray.llm.segments import (
    EMPTY,
    INDEX_SUFFIX,
    SEGMENT_SUFFIX,
    Entry,
    IndexBuilder,
    Place,
    prefix_of,
    read_lines,
)

DEAD_AFTER_S = 3600.0
"""A segment that nobody has closed is left alone for so long, unless its writer is known to be dead; writers
themselves start a new one after a sixth of it (ledger_writers.MAX_IDLE_S)."""
MAX_SEGMENT_BYTES = 1 << 30
MAX_SEGMENTS = 64


@dataclass
class ModelUse:
    """What one model was paid for."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Account:
    """What a ledger folder holds."""

    segments: int = 0
    size_bytes: int = 0
    entries: int = 0
    """Distinct ones."""
    repeated: int = 0
    """Entries whose key stands in the folder already: paid for twice, or in the midst of a merge."""
    bad_lines: int = 0
    """Whole lines that hold no entry."""
    cut_lines: int = 0
    """Lines that a crash cut: their rows are asked again."""
    bad_indexes: int = 0
    """Indexes that do not fit their segment; readers leave them alone and read the segment."""
    first_at_s: float | None = None
    last_at_s: float | None = None
    models: dict[str, ModelUse] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count an entry in."""
        self.entries += 1
        use = self.models.setdefault(entry.model or "not recorded", ModelUse())
        use.replies += 1
        use.prompt_tokens += entry.reply.prompt_tokens
        use.completion_tokens += entry.reply.completion_tokens
        if entry.at_s is not None:
            self.first_at_s = min(self.first_at_s or entry.at_s, entry.at_s)
            self.last_at_s = max(self.last_at_s or entry.at_s, entry.at_s)


def read_through(uri: str, on_progress: Callable[[int], None] = lambda entries: None) -> Account:
    """Return what a ledger folder holds, every line read; `on_progress` gets the entries so far."""
    files = LedgerFiles(uri)
    listing = files.listing()
    account = Account(len(listing.segments), sum(state.size_bytes for state in listing.segments.values()))
    repeated, seen = _repeated_prefixes(files, list(listing.segments), listing), set[bytes]()
    for name, state in listing.segments.items():
        places: Counter[Place] = Counter()
        for line in read_lines(files.lines(name, 0), 0):
            account.cut_lines += not line.is_whole
            account.bad_lines += line.is_whole and line.entry is None
            if line.entry is None:
                continue
            places[line.place] += 1
            if prefix_of(line.entry.key) in repeated:
                if line.entry.key in seen:
                    account.repeated += 1
                    continue
                seen.add(line.entry.key)
            account.add(line.entry)
            if account.entries % 10_000 == 0:
                on_progress(account.entries)
        if not _index_fits(files, name, state, listing.indexes.get(name), set(places)):
            account.bad_indexes += 1
    return account


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    segments_before: int
    segments_after: int
    entries: int
    dropped_lines: int
    """Cut lines and lines that hold no entry."""
    still_written: int
    """Segments that were left alone, since their writers may be at work."""


def compact(uri: str, on_progress: Callable[[int], None] = lambda entries: None) -> Compacted:
    """Put the finished segments of a ledger folder together, each reply once, each file with its index.

    Readers may go on meanwhile: the new files are there before the old ones go. Killed at any moment it
    loses nothing; what then stands twice goes the next time.
    """
    files = LedgerFiles(uri)
    listing = files.listing()
    finished = [name for name, state in listing.segments.items() if _is_finished(files, name, state, listing)]
    small = [name for name in finished if not _is_large(files, name, listing)]
    if len(small) == 1 and small[0] in listing.indexes:
        small = []
    merger = _Merger(files, _repeated_prefixes(files, small, listing), on_progress)
    for name in small:
        merger.take_in(name)
    merger.finish()
    for name in small:
        files.remove_segment(name)
    return Compacted(
        segments_before=len(listing.segments),
        segments_after=len(listing.segments) - len(small) + merger.num_written,
        entries=merger.num_entries,
        dropped_lines=merger.dropped_lines,
        still_written=len(listing.segments) - len(finished),
    )


def tidy(uri: str) -> None:
    """Compact a ledger folder that has come to hold so many files that looking things up gets slow."""
    if len(LedgerFiles(uri).listing().segments) > MAX_SEGMENTS:
        compact(uri)


class _Merger:
    """Copies lines, each key once, into new segments of a limited size."""

    def __init__(
        self, files: LedgerFiles, repeated: frozenset[int], on_progress: Callable[[int], None]
    ) -> None:
        self._files, self._on_progress = files, on_progress
        self._repeated = repeated
        self._seen: set[bytes] = set()
        self._data, self._builder = bytearray(), IndexBuilder()
        self.num_entries = self.num_written = self.dropped_lines = 0

    def take_in(self, name: str) -> None:
        for line in read_lines(self._files.lines(name, 0), 0):
            if line.entry is None:
                self.dropped_lines += 1
                continue
            if prefix_of(line.entry.key) in self._repeated:
                if line.entry.key in self._seen:
                    continue
                self._seen.add(line.entry.key)
            self._add(line.entry.key, line.raw)

    def finish(self) -> None:
        if not self._builder:
            return
        name, index = segment_name(), EMPTY.extended(self._builder, len(self._data), is_closed=True)
        self._files.write_bytes(name + SEGMENT_SUFFIX, bytes(self._data))
        self._files.write_bytes(name + INDEX_SUFFIX, index.to_bytes())
        self._data, self._builder = bytearray(), IndexBuilder()
        self.num_written += 1

    def _add(self, key: bytes, line: bytes) -> None:
        if len(self._builder) >= MAX_SEGMENT_ENTRIES or len(self._data) + len(line) > MAX_SEGMENT_BYTES:
            self.finish()
        self._builder.add(key, Place(len(self._data), len(line)))
        self._data += line
        self.num_entries += 1
        if self.num_entries % 10_000 == 0:
            self._on_progress(self.num_entries)


def _repeated_prefixes(files: LedgerFiles, names: list[str], listing: Listing) -> frozenset[int]:
    """Return the keys' numbers that stand more than once: only those keys have to be remembered."""
    prefixes = [np.empty(0, np.uint64)]
    for name in names:
        index_state = listing.indexes.get(name)
        index = files.index(name, index_state) if index_state is not None else None
        start = 0
        if index is not None and index.fits(listing.segments[name].size_bytes):
            prefixes.append(index.prefixes)
            start = index.covered_bytes
        rest = (line.entry for line in read_lines(files.lines(name, start), start))
        prefixes.append(np.array([prefix_of(entry.key) for entry in rest if entry], dtype=np.uint64))
    numbers, counts = np.unique(np.concatenate(prefixes), return_counts=True)
    return frozenset(numbers[counts > 1].tolist())


def _is_large(files: LedgerFiles, name: str, listing: Listing) -> bool:
    """Return whether a segment is as a merge would leave it."""
    index_state = listing.indexes.get(name)
    index = files.index(name, index_state) if index_state is not None else None
    if index is None or not index.fits(listing.segments[name].size_bytes):
        return False
    return 2 * len(index) > MAX_SEGMENT_ENTRIES or 2 * index.covered_bytes > MAX_SEGMENT_BYTES


def _is_finished(files: LedgerFiles, name: str, state: FileState, listing: Listing) -> bool:
    """Return whether nothing will be added to a segment any more; objects in a store never change."""
    if not files.is_local:
        return True
    index_state = listing.indexes.get(name)
    index = files.index(name, index_state) if index_state is not None else None
    if index is not None and index.is_closed:
        return True
    host, _, rest = name.rpartition("-")[0].rpartition("-")
    if host == socket.gethostname() and rest.isdigit():
        return not _is_alive(int(rest))
    return time.time() - state.changed_ns / 1e9 > DEAD_AFTER_S


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _index_fits(
    files: LedgerFiles, name: str, state: FileState, index_state: FileState | None, places: set[Place]
) -> bool:
    if index_state is None:
        return True
    index = files.index(name, index_state)
    if index is None or not index.fits(state.size_bytes):
        return False
    return all(place in places for place in _indexed(index.offsets.tolist(), index.lengths.tolist()))


def _indexed(offsets: list[int], lengths: list[int]) -> Iterator[Place]:
    return (Place(offset, length) for offset, length in zip(offsets, lengths, strict=True))
