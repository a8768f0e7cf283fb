"""What the user sees of a training while it runs, read from the files of its first worker. Pure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alpagasus_ray.console import Console
from alpagasus_ray.train.job import METRICS_FILE
from alpagasus_ray.train.metrics import last_metrics
from alpagasus_ray.train.recording import tracker_failures

POLL_EVERY_S = 0.5


@contextmanager
def shown_progress(
    folder: Path, arm: str, console: Console, why_not: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Show the steps that the first worker writes down, and trackers that fail, while the block lasts.

    `why_not` is asked why there is no step yet, and returns it in words, empty where nothing is wrong.
    """
    stop = threading.Event()
    told: set[str] = set()

    def tell_failures() -> None:
        for tracker, why in tracker_failures(folder).items():
            if tracker not in told:
                told.add(tracker)
                console.say(f"train {arm}: no more figures go to {tracker}, training goes on: {why}")

    def why() -> str:
        return "" if last_metrics(folder / METRICS_FILE) else why_not()

    def watch() -> None:
        with console.progress(f"train {arm}", 0, "steps") as progress, progress.watching(why):
            while not stop.wait(POLL_EVERY_S):
                if last := last_metrics(folder / METRICS_FILE):
                    progress.show(last["step"], f"loss {last['loss']:.3f}", total=last["num_steps"])
                tell_failures()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        tell_failures()
