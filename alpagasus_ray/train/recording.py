"""Each step's figures go into metrics.jsonl, and to the trackers without waiting for them. Pure."""

from __future__ import annotations

import json
import queue
import re
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from alpagasus_ray.train.job import LOGS_FOLDER, METRICS_FILE, TRACKING_FILE, TrainJob
from alpagasus_ray.train.metrics import MetricsFile, StepMetrics, read_metrics, scalars
from alpagasus_ray.train.tracking import CLOSE_TIMEOUT_S, TRACKERS, TrackedRun, Tracker

OnStep = Callable[[StepMetrics], None]
MAX_WORDS_CHARACTERS = 200


class Records:
    """What the first worker writes down; on the others, nothing."""

    def __init__(self, job: TrainJob, is_writer: bool, checkpoint: Path | None, on_step: OnStep) -> None:
        """Begin with the steps that stand in a checkpoint: later ones will be done again."""
        self._folder, self._is_writer, self._on_step = Path(job.export_folder), is_writer, on_step
        self._metrics = MetricsFile(self._folder / METRICS_FILE, is_writer)
        self._metrics.start(checkpoint)
        self._senders: list[Sender] = []
        if not is_writer:
            return
        before = read_metrics(self._folder / METRICS_FILE)
        trained_s = before[-1]["train_time_s"] if before else 0.0
        self._zero_s = time.time() - trained_s
        self.id = training_id(checkpoint) or uuid.uuid4().hex
        self._write_state()
        logs = self._folder / LOGS_FOLDER
        run = TrackedRun(self.id, self._folder.name, logs, job.settings.model_dump())
        for name in dict.fromkeys(job.settings.trackers):
            sender = Sender(name, partial(_start, name, run))
            for line in before:
                sender.send(line, self._zero_s + line["train_time_s"])
            sender.start()
            self._senders.append(sender)

    def add(self, metrics: StepMetrics) -> None:
        """Write a step down."""
        self._metrics.add(metrics)
        if not self._is_writer:
            return
        for sender in self._senders:
            sender.send(metrics.to_dict(), self._zero_s + metrics.train_time_s)
        self._tell_failures()
        self._on_step(metrics)

    def copy_into(self, checkpoint: Path) -> None:
        """Put what is needed to go on from here into a checkpoint."""
        self._metrics.copy_into(checkpoint)
        if self._is_writer:
            shutil.copy(self._folder / TRACKING_FILE, checkpoint / TRACKING_FILE)

    def close(self, is_done: bool) -> None:
        """Give the trackers CLOSE_TIMEOUT_S to send what is left."""
        for sender in self._senders:
            sender.end(is_done)
        until_s = time.monotonic() + CLOSE_TIMEOUT_S
        for sender in self._senders:
            sender.join(max(0.0, until_s - time.monotonic()))
            if sender.is_alive():
                sender.failure = f"it still sends after {CLOSE_TIMEOUT_S:g} s; what is left is given up"
        self._tell_failures()

    def _tell_failures(self) -> None:
        """Say each tracker's failure once, and leave it for whoever watches."""
        new = [one for one in self._senders if one.failure is not None and not one.is_told]
        for sender in new:
            sender.is_told = True
            print(f"tracker {sender.tracker} failed: {sender.failure}", file=sys.stderr, flush=True)
        if new:
            self._write_state()

    def _write_state(self) -> None:
        failures = {one.tracker: one.failure for one in self._senders if one.failure is not None}
        partial_file = self._folder / f"{TRACKING_FILE}.partial"
        partial_file.write_text(json.dumps({"id": self.id, "failures": failures}), encoding="utf-8")
        partial_file.replace(self._folder / TRACKING_FILE)


@contextmanager
def recording(
    job: TrainJob, is_writer: bool, checkpoint: Path | None, on_step: OnStep = lambda _: None
) -> Iterator[Records]:
    """Give what to write steps down with; at the end of the block the trackers are closed.

    `on_step` is called on the first worker after each step is written.
    """
    records = Records(job, is_writer, checkpoint, on_step)
    is_done = False
    try:
        yield records
        is_done = True
    finally:
        records.close(is_done)


class Sender(threading.Thread):
    """Hands one tracker its steps in a thread of its own: a network that hangs holds up nothing."""

    def __init__(self, tracker: str, start_tracker: Callable[[], Tracker]) -> None:
        super().__init__(name=f"tracker-{tracker}", daemon=True)
        self.tracker = tracker
        self.failure: str | None = None
        """Why nothing more is sent, in one line."""
        self.is_told = False
        self._start_tracker = start_tracker
        self._queue: queue.SimpleQueue[tuple[Mapping[str, Any], float] | bool] = queue.SimpleQueue()

    def send(self, line: Mapping[str, Any], time_s: float) -> None:
        """Add a line of metrics.jsonl to what is to be sent; returns at once."""
        if self.failure is None:
            self._queue.put((line, time_s))

    def end(self, is_done: bool) -> None:
        """Let the thread end once all is sent."""
        self._queue.put(is_done)

    def run(self) -> None:
        """Send until the end, or until the tracker fails."""
        try:
            tracker = self._start_tracker()
            while not isinstance(item := self._queue.get(), bool):
                line, time_s = item
                if line["step"] > tracker.last_step:
                    tracker.log(line["step"], scalars(line), time_s)
            tracker.close(is_done=item)
        except (Exception, SystemExit) as error:  # whatever a tracker's package raises, training goes on
            self.failure = _one_line(error)


def training_id(folder: Path | None) -> str | None:
    """Return the id by which trackers know the training of a folder; None where there is none."""
    state = _read_state(folder / TRACKING_FILE) if folder is not None else {}
    return state.get("id")


def tracker_failures(folder: Path) -> dict[str, str]:
    """Return why trackers of the training in a folder have stopped, by their names."""
    failures: dict[str, str] = _read_state(folder / TRACKING_FILE).get("failures", {})
    return failures


def _read_state(file: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return state


def _start(name: str, run: TrackedRun) -> Tracker:
    run.folder.mkdir(parents=True, exist_ok=True)
    return TRACKERS[name].start(run)


def _one_line(error: BaseException) -> str:
    words = " ".join(f"{type(error).__name__}: {error}".split())
    # An address may hold a user and a password.
    return re.sub(r"//[^/@\s]*@", "//", words)[:MAX_WORDS_CHARACTERS]
