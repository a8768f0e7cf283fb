"""What a command does, as JSON lines: RUN/logs/<command>.jsonl. Stages, counts, our own words: no row's.

In a local run each line is written at once. An object store takes whole objects: there the lines are put
every PUT_EVERY_S, and once more at the end.
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

FOLDER = "logs"
START, EXIT = "start", "exit"
"""Of a command; its stages have `begin`, `progress` and `end`, `failed` or `stopped`."""
PUT_EVERY_S = 30.0


class EventLog:
    """One command's events. What cannot be written is left out: no run hangs on its log."""

    def __init__(self, run: Storage, command: str) -> None:
        """Go on after what the same command wrote before."""
        self._run, self._name = run, f"{FOLDER}/{command}.jsonl"
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._text, self._num_put = "", 0
        if run.is_local:
            return
        with suppress(OSError):
            self._text = run.read_text(self._name)
        self._num_put = len(self._text)
        threading.Thread(target=self._put_now_and_then, name="event-log", daemon=True).start()

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
            self._put()

    def _put_now_and_then(self) -> None:
        while not self._ended.wait(PUT_EVERY_S):
            self._put()

    def _put(self) -> None:
        with self._lock:
            text = self._text
        if len(text) > self._num_put:
            with suppress(OSError):
                self._run.write_bytes(self._name, text.encode("utf-8", "replace"))
                self._num_put = len(text)


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
    """Return the events of all commands on a run, in their order; a half-written line is left out."""
    events: list[dict[str, Any]] = []
    for name in _names(run):
        for line in run.read_text(f"{FOLDER}/{name}").splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                events.append({**event, "command": name.removesuffix(".jsonl")})
    return sorted(events, key=lambda event: str(event["time"]))


def _names(run: Storage) -> list[str]:
    # Not list_files: RUN/logs/ray is a link to all that Ray has to say.
    from pyarrow import fs

    selector = fs.FileSelector(run.path(FOLDER), recursive=False, allow_not_found=True)
    names = [info.base_name for info in run.filesystem.get_file_info(selector)]
    return sorted(name for name in names if name.endswith(".jsonl"))
