"""A training's files where its processes are: what lies in an object store is sent there, and fetched. Pure.

On a file system that all nodes share, nothing is copied. In an object store there is no file to which a step
could be added: the first worker writes to a folder of its own, and sends what has changed now and then.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from alpagasus_ray.storage import Storage, last_part
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, SUMMARY_FILE, TRACKING_FILE, TrainJob

RECORDS = (METRICS_FILE, TRACKING_FILE, SUMMARY_FILE, ERROR_FILE)
"""What others read while a training runs, or in place of a model."""
EVERY_S = 2.0


@contextmanager
def written_here(job: TrainJob, *, is_first: bool) -> Iterator[TrainJob]:
    """Give the job with a folder on this machine to write the model to; the first worker's is sent home.

    Its records go every EVERY_S seconds, all the rest when the block has ended well. Raises OSError where
    the model cannot be sent.
    """
    if "://" not in job.export_folder:
        yield job
        return
    home = Storage(job.export_folder)
    with tempfile.TemporaryDirectory(prefix="training-") as parent:
        folder = Path(parent) / last_part(job.export_folder)
        folder.mkdir()
        sent: dict[str, bytes] = {}

        def send_records() -> None:
            for name in RECORDS:
                with suppress(FileNotFoundError):
                    data = (folder / name).read_bytes()
                    if sent.get(name) != data:
                        home.write_bytes(name, data)
                        sent[name] = data

        with _now_and_then(send_records) if is_first else nullcontext():
            yield replace(job, export_folder=str(folder))
        if is_first:
            home.put_folder(folder, "")


@contextmanager
def records_here(export_folder: str) -> Iterator[Path]:
    """Give a folder on this machine with a training's records, kept fresh for as long as the block lasts.

    At the end of the block they are as they stand then.
    """
    if "://" not in export_folder:
        yield Path(export_folder)
        return
    home = Storage(export_folder)
    with tempfile.TemporaryDirectory(prefix="records-") as parent:
        folder = Path(parent)

        def fetch_records() -> None:
            for name in RECORDS:
                with suppress(FileNotFoundError):
                    text = home.read_text(name)
                    partial = folder / f"{name}.partial"
                    partial.write_text(text, encoding="utf-8")
                    partial.replace(folder / name)

        fetch_records()
        with _now_and_then(fetch_records):
            yield folder


@contextmanager
def _now_and_then(act: Callable[[], None]) -> Iterator[None]:
    """Act every EVERY_S seconds, and once more at the end, however that comes.

    A store that does not answer is tried again the next time; at the end what it says is raised.
    """
    stop = threading.Event()

    def keep_on() -> None:
        while not stop.wait(EVERY_S):
            with suppress(OSError):
                act()

    thread = threading.Thread(target=keep_on, name="training-files", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        act()
