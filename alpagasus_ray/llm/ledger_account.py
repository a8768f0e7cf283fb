"""What a ledger folder holds, every line of it read, and whether all of it can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from alpagasus_ray.llm.ledger_files import LedgerFiles, Listing
from alpagasus_ray.llm.segments import Entry, Index, IndexBuilder, prefix_of, read_lines


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
    """Indexes that cannot be read, or that know other lines than their segment has."""
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
    repeated, seen = repeated_prefixes(files, list(listing.segments), listing), set[bytes]()
    for name, state in listing.segments.items():
        # Before the lines: a writer that is at work may put a newer one in its place.
        index = index_of(files, name, listing)
        found, size_bytes = IndexBuilder(), state.size_bytes
        for line in read_lines(files.lines(name, 0), 0):
            size_bytes = max(size_bytes, line.place.offset + line.place.length)
            account.cut_lines += not line.is_whole
            account.bad_lines += line.is_whole and line.entry is None
            if line.entry is None:
                continue
            found.add(line.entry.key, line.place)
            if prefix_of(line.entry.key) in repeated:
                if line.entry.key in seen:
                    account.repeated += 1
                    continue
                seen.add(line.entry.key)
            account.add(line.entry)
            if account.entries % 10_000 == 0:
                on_progress(account.entries)
        if name in listing.indexes and not (index and index.fits(size_bytes) and _is_right(index, found)):
            account.bad_indexes += 1
    return account


def index_of(files: LedgerFiles, name: str, listing: Listing) -> Index | None:
    """Return a segment's index; None where there is none, or none that can be read."""
    state = listing.indexes.get(name)
    return None if state is None else files.index(name, state)


def is_sound(files: LedgerFiles, name: str, listing: Listing, *, read: bool) -> bool:
    """Return whether a segment is as a merge would leave it: all lines hold entries, and its index has them.

    Not read through, it is judged by its index: whether it is that of the whole file, with no bytes between
    its lines. That tells all that a crash or a full disk can do, but not a line that changed afterwards.
    """
    index = index_of(files, name, listing)
    if index is None or not index.is_closed or not index.fits(listing.segments[name].size_bytes):
        return False
    if not read or _has_gaps(index):
        return not _has_gaps(index)
    found = IndexBuilder()
    for line in read_lines(files.lines(name, 0), 0):
        if line.entry is None:
            return False
        found.add(line.entry.key, line.place)
    return _is_right(index, found)


def repeated_prefixes(files: LedgerFiles, names: Sequence[str], listing: Listing) -> frozenset[int]:
    """Return the keys' numbers that stand more than once: only those keys have to be remembered."""
    prefixes = [np.empty(0, np.uint64)]
    for name in names:
        index, start = index_of(files, name, listing), 0
        if index is not None and index.fits(listing.segments[name].size_bytes):
            prefixes.append(index.prefixes)
            start = index.covered_bytes
        rest = (line.entry for line in read_lines(files.lines(name, start), start))
        prefixes.append(np.array([prefix_of(entry.key) for entry in rest if entry], dtype=np.uint64))
    numbers, counts = np.unique(np.concatenate(prefixes), return_counts=True)
    return frozenset(numbers[counts > 1].tolist())


def _is_right(index: Index, found: IndexBuilder) -> bool:
    """Return whether an index has the entries that stand in the part it covers, and no others."""
    order = np.argsort(index.offsets, kind="stable")
    count = int(np.searchsorted(np.array(found.offsets, dtype=np.uint64), index.covered_bytes))
    return (
        np.array_equal(index.prefixes[order], np.array(found.prefixes[:count], dtype=np.uint64))
        and np.array_equal(index.offsets[order], np.array(found.offsets[:count], dtype=np.uint64))
        and np.array_equal(index.lengths[order], np.array(found.lengths[:count], dtype=np.uint32))
    )


def _has_gaps(index: Index) -> bool:
    """Return whether there is more than a newline (ledger_writers.LocalWriter.write) between two lines."""
    order = np.argsort(index.offsets, kind="stable")
    begins = np.append(index.offsets[order], np.uint64(index.covered_bytes)).astype(np.int64)
    ends = np.append(0, (index.offsets + index.lengths)[order]).astype(np.int64)
    return bool((np.abs(begins - ends) > 1).any())
