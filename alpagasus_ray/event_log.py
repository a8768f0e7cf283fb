"""What a command does, as JSON lines: RUN/logs/<command>.jsonl. Stages, counts, our own words: no row's.

In a local run each line is written at once. An object store takes whole objects: there the lines are put
every PUT_EVERY_S, and once more at the end. They are put though none is new: so the store says when the
command was last there, however long a stage has nothing to say.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.errors import how_it_ended
from alpagasus_ray.manifests import package_versions
from alpagasus_ray.storage import Storage

FOLDER, ENDING = "logs", ".jsonl"
START, EXIT = "start", "exit"
"""Of a command; its stages have `begin`, `progress` and `end`, `failed` or `stopped`."""
PUT_EVERY_S = 30.0


class EventLog:
    """One command's events. What cannot be written is left out: no run hangs on its log."""

    def __init__(self, run: Storage, command: str) -> None:
        """Go on after what the same command wrote before."""
        self._run, self._name = run, f"{FOLDER}/{command}{ENDING}"
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._text = ""
        if run.is_local:
            return
        with suppress(OSError):
            self._text = run.read_text(self._name, errors="replace")
        self._putting = threading.Thread(target=self._put_now_and_then, name="event-log", daemon=True)
        self._putting.start()

    def write(self, stage: str, event: str, **figures: Any) -> None:
        """Add a line; figures that are None are left out."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        known = {name: value for name, value in figures.items() if value is not None}
        line = json.dumps({"time": now, "stage": stage, "event": event, **known}, ensure_ascii=False) + "\n"
        with self._lock, suppress(OSError):
            if self._run.is_local:
                path = Path(self._run.path(self._name))
                with path.open("a", encoding="utf-8", errors="replace") as file:
                    file.write(line)
            else:
                self._text += line

    def close(self) -> None:
        """Put what is left."""
        self._ended.set()
        if not self._run.is_local:
            self._putting.join()  # what it puts is older, and must not come last
            self._put()

    def _put_now_and_then(self) -> None:
        while not self._ended.wait(PUT_EVERY_S):
            self._put()

    def _put(self) -> None:
        with self._lock:
            text = self._text
        with suppress(OSError):
            self._run.write_bytes(self._name, text.encode("utf-8", "replace"))


@contextmanager
def recording(run: RunDirectory, command: str, console: Console) -> Iterator[None]:
    """Keep what happens to a run's stages, and what is said of it, for as long as the block lasts."""
    log = EventLog(run, command)
    run.on_event = console.on_event = log.write
    log.write(command, START, versions=package_versions())
    try:
        yield
    except BaseException as error:
        event, why = how_it_ended(error)
        log.write(command, EXIT, outcome=event, why=why)
        raise
    else:
        log.write(command, EXIT, outcome="done")
    finally:
        log.close()


def read_events(run: Storage) -> list[dict[str, Any]]:
    """Return the events of all commands on a run, in their order; what is no event is left out.

    A line may be half written, cut inside of a letter, or somebody else's.
    """
    events: list[dict[str, Any]] = []
    for info in _logs(run):
        text = run.read_text(f"{FOLDER}/{info.base_name}", errors="replace")
        for line in text.split("\n"):  # splitlines would cut a text that holds U+2028
            if (event := _event_of(line)) is not None:
                events.append({**event, "command": info.base_name.removesuffix(ENDING)})
    return sorted(events, key=lambda event: datetime.fromisoformat(event["time"]))


def last_put(run: Storage, command: str) -> datetime | None:
    """Return when a command's log was last put, by the store's clock; None where it has none."""
    return next((info.mtime for info in _logs(run) if info.base_name == command + ENDING), None)


def _event_of(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        is_one = isinstance(event["event"], str) and datetime.fromisoformat(event["time"]).tzinfo is not None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return event if is_one else None


def _logs(run: Storage) -> list[Any]:
    # Not list_files: RUN/logs/ray is a link to all that Ray has to say.
    from pyarrow import fs

    selector = fs.FileSelector(run.path(FOLDER), recursive=False, allow_not_found=True)
    infos = [info for info in run.filesystem.get_file_info(selector) if info.type == fs.FileType.File]
    return sorted(
        (info for info in infos if info.base_name.endswith(ENDING)), key=lambda info: info.base_name
    )
