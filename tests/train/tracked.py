"""What trackers were told, read back from their own files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Points = list[tuple[int, float]]


def event_curves(folder: Path) -> dict[str, Points]:
    """Return (step, value) by tag of all event files in a folder, in the order of writing."""
    curves: dict[str, Points] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in _events(file.read_bytes()):
            for value in event.summary.value:
                curves.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves


def _events(data: bytes) -> Iterator[Any]:
    """Yield a TFRecord file's events: each is its length, a checksum, the event and a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    start = 0
    while start < len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        event = Event()
        event.ParseFromString(data[start + 12 : start + 12 + length])
        yield event
        start += 12 + length + 4
