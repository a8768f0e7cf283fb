"""The ledger of paid replies: a reply is paid for once, whoever asks again.

A folder of append-only segments, one writer each, so that no lock is needed on any file system:
every line is `{"key": ..., "reply": {...}}`. A line is handed to the operating system in one write
before the row counts as done, so a killed process loses none. A line that a crash cut in half ends
its segment's readable part; its row is asked again.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from pathlib import Path

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Reply

SEGMENT_SUFFIX = ".jsonl"


class Ledger:
    """Replies by request key. Keys and places are held in memory; the replies stay on disk."""

    def __init__(self, folder: str | Path) -> None:
        if "://" in str(folder):
            raise UserError(
                f"ledger {folder}: a ledger is a folder on a file system that every node can reach; "
                "object stores are not supported yet"
            )
        self.folder = Path(folder).expanduser().absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"ledger {folder} cannot be made: {error.strerror}") from error
        self._places: dict[bytes, tuple[str, int, int]] = {}
        self._read_up_to: dict[str, int] = {}
        self._writer: int | None = None
        self._segment = ""
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def refresh(self) -> None:
        """Take in what other writers have added since the last look; reads only the new bytes."""
        for entry in os.scandir(self.folder):
            if not entry.name.endswith(SEGMENT_SUFFIX):
                continue
            start = self._read_up_to.get(entry.name, 0)
            if entry.stat().st_size > start:
                self._read_up_to[entry.name] = self._take_in(entry.name, start)

    def lookup(self, key: str) -> Reply | None:
        """Return the reply kept under a request's key, or None."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        name, offset, length = place
        with (self.folder / name).open("rb") as segment:
            segment.seek(offset)
            return Reply(**json.loads(segment.read(length))["reply"])

    def record(self, key: str, reply: Reply) -> None:
        """Keep a reply; on return it outlives this process. Raises OSError when the disk is full."""
        if self._writer is None:
            self._segment = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SEGMENT_SUFFIX}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._writer = os.open(self.folder / self._segment, flags, 0o644)
        line = json.dumps({"key": key, "reply": reply.to_dict()})
        # A leading newline closes a line that a full disk cut short.
        data = f"\n{line}\n".encode()
        end = os.fstat(self._writer).st_size + len(data)
        while data:
            data = data[os.write(self._writer, data) :]
        self._places[bytes.fromhex(key)] = (self._segment, end - len(line) - 1, len(line) + 1)

    def close(self) -> None:
        """Close this writer's segment."""
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def _take_in(self, name: str, start: int) -> int:
        """Read a segment's lines from a place on; return the place after its last whole line."""
        position = start
        with (self.folder / name).open("rb") as segment:
            segment.seek(start)
            for line in segment:
                if not line.endswith(b"\n"):
                    break
                if (key := _key_of(line)) is not None:
                    self._places[key] = (name, position, len(line))
                position += len(line)
        return position


def _key_of(line: bytes) -> bytes | None:
    """Return the key of a whole entry; None for a line that is none, whoever wrote it."""
    try:
        entry = json.loads(line)
        reply = Reply(**entry["reply"])
        if not isinstance(reply.text, str):
            return None
        return bytes.fromhex(entry["key"])
    except (ValueError, KeyError, TypeError):
        return None
