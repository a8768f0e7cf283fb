"""Keeping a ledger in order: fewer, larger files, without what a crash or a bad disk left in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from alpagasus_ray.llm.ledger_account import index_of, is_sound, repeated_prefixes
from alpagasus_ray.llm.ledger_files import LedgerFiles, Listing
from alpagasus_ray.llm.ledger_names import has_ended, segment_name
from alpagasus_ray.llm.ledger_writers import MAX_SEGMENT_ENTRIES
from alpagasus_ray.llm.segments import (
    EMPTY,
    INDEX_SUFFIX,
    SEGMENT_SUFFIX,
    IndexBuilder,
    Place,
    prefix_of,
    read_lines,
)

MAX_SEGMENT_BYTES = 1 << 30
MAX_SEGMENTS = 64
"""Besides those that are as large as a segment may get: nothing makes these fewer."""


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


def compact(
    uri: str, on_progress: Callable[[int], None] = lambda entries: None, *, read_all: bool = True
) -> Compacted:
    """Put the finished segments of a ledger folder together, each reply once, each file with its index.

    Large ones that are sound are left as they are; without `read_all` their indexes tell (`is_sound`).
    Readers may go on meanwhile: the new files are there before the old ones go. Killed at any moment it
    loses nothing; what then stands twice goes the next time.
    """
    files = LedgerFiles(uri)
    listing = files.listing()
    finished = [name for name in listing.segments if _is_finished(files, name, listing)]
    large = {name for name in finished if _is_large(files, name, listing)}
    damaged = {name for name in large if not is_sound(files, name, listing, read=read_all)}
    taken = [name for name in finished if name not in large or name in damaged]
    if len(taken) == 1 and is_sound(files, taken[0], listing, read=read_all):
        taken = []
    merger = _Merger(files, repeated_prefixes(files, taken, listing), on_progress)
    for name in taken:
        merger.take_in(name)
    merger.finish()
    for name in taken:
        files.remove_segment(name)
    return Compacted(
        segments_before=len(listing.segments),
        segments_after=len(listing.segments) - len(taken) + merger.num_written,
        entries=merger.num_entries,
        dropped_lines=merger.dropped_lines,
        still_written=len(listing.segments) - len(finished),
    )


def tidy(uri: str) -> None:
    """Compact a ledger folder that has come to hold so many files that looking things up gets slow."""
    files = LedgerFiles(uri)
    listing = files.listing()
    if len(listing.segments) <= MAX_SEGMENTS:  # no index need be opened to see that
        return
    if sum(not _is_large(files, name, listing) for name in listing.segments) > MAX_SEGMENTS:
        compact(uri, read_all=False)


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


def _is_large(files: LedgerFiles, name: str, listing: Listing) -> bool:
    index = index_of(files, name, listing)
    if index is None:
        return False
    return 2 * len(index) > MAX_SEGMENT_ENTRIES or 2 * index.covered_bytes > MAX_SEGMENT_BYTES


def _is_finished(files: LedgerFiles, name: str, listing: Listing) -> bool:
    """Return whether nothing will be added to a segment any more; objects in a store never change."""
    if not files.is_local:
        return True
    index = index_of(files, name, listing)
    if index is not None and index.is_closed:
        return True
    return has_ended(name, time.time() - listing.segments[name].changed_ns / 1e9)
