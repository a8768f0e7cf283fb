"""Where the ledger's segments lie: a local folder or an object store, read in pieces."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.segments import (
    INDEX_SUFFIX,
    SEGMENT_SUFFIX,
    Index,
    Place,
    entry_of_line,
    open_index,
)
from alpagasus_ray.storage import Storage


@dataclass(frozen=True, slots=True)
class FileState:
    """What a listing says of a file; another state means another content."""

    size_bytes: int
    changed_ns: int


@dataclass(frozen=True)
class Listing:
    """The segments and the indexes that are there, by name without suffix."""

    segments: dict[str, FileState]
    indexes: dict[str, FileState]


class LedgerFiles(Storage):
    """The files of one ledger folder."""

    what = "the ledger"
    is_patient = False
    """Who writes and who looks replies up ask again themselves, and tell when the store is gone for good."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        name = hashlib.sha256(self.uri.encode()).hexdigest()[:16]
        self._cache = Path(tempfile.gettempdir()) / f"alpagasus-ledger-{os.getuid()}" / name
        self._open: dict[str, int] = {}

    def listing(self) -> Listing:
        """Return the files that are there now; a folder that is not there has none."""
        infos = self.filesystem.get_file_info(fs.FileSelector(self.root, allow_not_found=True))
        states = {
            info.base_name: FileState(info.size, info.mtime_ns or 0)
            for info in infos
            if info.type == fs.FileType.File
        }
        return Listing(_by_stem(states, SEGMENT_SUFFIX), _by_stem(states, INDEX_SUFFIX))

    def read(self, name: str, place: Place) -> bytes:
        """Return the bytes at a place of a segment; raises FileNotFoundError where it was merged away."""
        if not self.is_local:
            with self._reading(name + SEGMENT_SUFFIX) as segment:
                return bytes(segment.read_at(place.length, place.offset))
        if name not in self._open:
            self._open[name] = os.open(self.path(name + SEGMENT_SUFFIX), os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._open[name], place.length, place.offset)

    def entry_at(self, name: str, places: Iterable[Place], key: bytes) -> Reply | None:
        """Return the reply of the first of these places of a segment that has this very key."""
        for place in places:
            entry = entry_of_line(self.read(name, place))
            if entry is not None and entry.key == key:
                return entry.reply
        return None

    def lines(self, name: str, start: int) -> Iterator[bytes]:
        """Yield the lines of a segment from a byte on."""
        if self.is_local:
            with Path(self.path(name + SEGMENT_SUFFIX)).open("rb") as local:
                local.seek(start)
                yield from local
            return
        with self._reading(name + SEGMENT_SUFFIX) as segment:
            data = bytes(segment.read_at(segment.size() - start, start))
        yield from data.splitlines(keepends=True)

    def index(self, name: str, state: FileState) -> Index | None:
        """Return a segment's index through a memory map; None where there is none that can be read."""
        if self.is_local:
            return open_index(self.path(name + INDEX_SUFFIX))
        cached = self._cache / f"{name}-{state.size_bytes}-{state.changed_ns}{INDEX_SUFFIX}"
        if not cached.exists():
            with self._reading(name + INDEX_SUFFIX) as remote:
                data = bytes(remote.read())
            # Several may fetch it at once: the last rename wins, with the same bytes. No two may share the
            # partial file: one would cut short what the other has mapped already.
            partial = cached.with_name(f"{cached.name}.{uuid.uuid4().hex}.partial")
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_bytes(data)
            partial.rename(cached)
        return open_index(str(cached))

    @contextmanager
    def _reading(self, file: str) -> Iterator[pa.NativeFile]:
        """Open an object; raises FileNotFoundError also where it goes after it was opened."""
        try:
            with self.filesystem.open_input_file(self.path(file)) as opened:
                yield opened
        except OSError as error:
            # The store's library has several errors for it.
            if isinstance(error, FileNotFoundError) or self.exists(file):
                raise
            raise FileNotFoundError(self.path(file)) from error

    def forget(self, name: str) -> None:
        """Let go of a segment that is no longer there."""
        if (handle := self._open.pop(name, None)) is not None:
            os.close(handle)
        for cached in self._cache.glob(f"{name}-*{INDEX_SUFFIX}"):
            cached.unlink(missing_ok=True)

    def remove_segment(self, name: str) -> None:
        """Remove a segment and its index; another may have done it already."""
        for suffix in (SEGMENT_SUFFIX, INDEX_SUFFIX):
            with suppress(FileNotFoundError):
                self.remove(name + suffix)

    def close(self) -> None:
        """Close what was opened for reading."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()


def _by_stem(states: dict[str, FileState], suffix: str) -> dict[str, FileState]:
    return {name.removesuffix(suffix): state for name, state in states.items() if name.endswith(suffix)}
