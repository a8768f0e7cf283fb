"""Files that instruction data are read from, wherever they are: whole lines, bytes and a hash of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.corpus.rows import MAX_ROW_BYTES
from alpagasus_ray.errors import UserError

CHUNK_BYTES = 1 << 20


class ByteStream(Protocol):
    """What can be read from the start to the end."""

    def read(self, size: int) -> bytes:
        """Return up to so many bytes; none at the end."""


@dataclass(frozen=True)
class SourceFile:
    """One file, on this machine or in an object store."""

    name: str
    """As the user calls it."""
    path: str
    """As the file system calls it."""
    filesystem: fs.FileSystem

    @property
    def extension(self) -> str:
        """The ending without the compression's: `.json` for data.json and for data.json.gz."""
        return self.path.lower().removesuffix(".gz").rpartition("/")[2].rpartition(".")[2]

    @property
    def is_compressed(self) -> bool:
        """Whether the file is read through gzip."""
        return self.path.lower().endswith(".gz")

    @contextmanager
    def open(self) -> Iterator[ByteStream]:
        """Give a stream of the file's bytes, unpacked; raises UserError for what cannot be read."""
        with self.named_errors():
            compression = "gzip" if self.is_compressed else None
            with self.filesystem.open_input_stream(self.path, compression=compression) as stream:
                yield stream

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn the errors of reading into a UserError of one line that names the file."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.name} cannot be read: {one_line(error)}") from error

    def sha256(self) -> str:
        """Return the hash of the file's bytes as they are stored."""
        digest = hashlib.sha256()
        with (
            self.named_errors(),
            self.filesystem.open_input_stream(self.path, compression=None) as stream,
        ):
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def start(self, size: int) -> bytes:
        """Return the first so many bytes, unpacked."""
        with self.open() as stream:
            return stream.read(size)


def one_line(error: Exception) -> str:
    """Return an error's own words, without line breaks and at most 300 characters of them."""
    return " ".join(str(error).split())[:300]


def read_lines(stream: ByteStream) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with its number, its line break included; None for one that is too long to hold."""
    number = 1
    pending: list[bytes] = []
    num_pending = 0
    while chunk := stream.read(CHUNK_BYTES):
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            yield number, None if num_pending > MAX_ROW_BYTES else b"".join([*pending, end, b"\n"])
            number, num_pending = number + 1, 0
            pending.clear()
        num_pending += len(rest)
        if num_pending > MAX_ROW_BYTES:
            pending.clear()
        else:
            pending.append(rest)
    if num_pending:
        yield number, None if num_pending > MAX_ROW_BYTES else b"".join(pending)
