"""Steps written down, whatever becomes of the trackers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train import recording as module
from alpagasus_ray.train.job import LOGS_FOLDER, METRICS_FILE, TRACKING_FILE, TrainJob
from alpagasus_ray.train.metrics import StepMetrics, read_metrics
from alpagasus_ray.train.recording import recording, tracker_failures, training_id
from alpagasus_ray.train.tracking import TRACKERS, TrackedRun, TrackerKind
from tests.train.test_metrics import STEP
from tests.train.tracked import event_curves


def job_in(folder: Path, *trackers: Any) -> TrainJob:
    folder.mkdir(exist_ok=True)
    return TrainJob("base", "train.json", str(folder), TrainSettings(trackers=trackers or ("tensorboard",)))


def step(number: int, loss: float = 2.0) -> StepMetrics:
    return replace(STEP, step=number, loss=loss, train_time_s=float(number))


def test_steps_reach_the_file_the_tracker_and_whoever_asks(tmp_path: Path) -> None:
    seen: list[int] = []
    with recording(job_in(tmp_path), True, None, lambda metrics: seen.append(metrics.step)) as records:
        for number in (1, 2):
            records.add(step(number))
    assert [line["step"] for line in read_metrics(tmp_path / METRICS_FILE)] == [1, 2] == seen
    assert event_curves(tmp_path / LOGS_FOLDER)["loss"] == [(1, 2.0), (2, 2.0)]
    assert tracker_failures(tmp_path) == {}


def test_other_workers_write_nothing(tmp_path: Path) -> None:
    seen: list[int] = []
    job = job_in(tmp_path / "model")
    with recording(job, False, None, lambda metrics: seen.append(metrics.step)) as records:
        records.add(step(1))
        records.copy_into(tmp_path)
    assert seen == [] == list((tmp_path / "model").iterdir())
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_who_goes_on_from_a_checkpoint_keeps_its_curve_and_its_name(tmp_path: Path) -> None:
    """Also where the whole folder is new, as it is when the command is started again."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    first, second = tmp_path / "first", tmp_path / "second"
    with recording(job_in(first), True, None) as records:
        records.add(step(1, 3.0))
        records.add(step(2, 2.5))
        records.copy_into(checkpoint)
        records.add(step(3, 99.0))
    for folder in (first, second):
        with recording(job_in(folder), True, checkpoint) as records:
            records.add(step(3, 2.25))
        assert event_curves(folder / LOGS_FOLDER)["loss"] == [(1, 3.0), (2, 2.5), (3, 2.25)]
        assert training_id(folder) == training_id(checkpoint) is not None
    with recording(job_in(second), True, None):
        pass
    assert training_id(second) != training_id(checkpoint), "a training from the start is another"


class Counting:
    """A tracker that has seen 2 steps before, and breaks where it is told to."""

    last_step = 2

    def __init__(self, breaks_at: int = 99) -> None:
        self.breaks_at, self.steps, self.is_done = breaks_at, list[int](), None

    def log(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        if step == self.breaks_at:
            raise ConnectionError("http://me:secret@tracker:5000/api\ncannot be reached")
        self.steps.append(step)

    def close(self, is_done: bool) -> None:
        self.is_done = is_done  # type: ignore[assignment]


def plug_in(monkeypatch: pytest.MonkeyPatch, tracker: Any) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", TrackerKind(lambda _: tracker, "json"))


def test_steps_that_a_tracker_has_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Counting()
    plug_in(monkeypatch, tracker)
    with recording(job_in(tmp_path, "mlflow"), True, None) as records:
        for number in range(1, 6):
            records.add(step(number))
    assert (tracker.steps, tracker.is_done) == ([3, 4, 5], True)


def test_a_training_that_ends_early_is_told_to_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Counting()
    plug_in(monkeypatch, tracker)
    with pytest.raises(ZeroDivisionError), recording(job_in(tmp_path, "mlflow"), True, None):
        raise ZeroDivisionError
    assert tracker.is_done is False


def test_a_tracker_that_fails_is_said_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Counting(breaks_at=4)
    plug_in(monkeypatch, tracker)
    with recording(job_in(tmp_path, "mlflow", "tensorboard"), True, None) as records:
        for number in range(1, 9):
            records.add(step(number))
    assert tracker.steps == [3]
    assert [line["step"] for line in read_metrics(tmp_path / METRICS_FILE)] == [*range(1, 9)]
    assert len(event_curves(tmp_path / LOGS_FOLDER)["loss"]) == 8
    said = "ConnectionError: http://tracker:5000/api cannot be reached"
    assert tracker_failures(tmp_path) == {"mlflow": said}
    assert capsys.readouterr().err.count(said) == 1
    assert "secret" not in (tmp_path / TRACKING_FILE).read_text()


def test_a_tracker_that_cannot_even_start_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / LOGS_FOLDER).write_text("a file, where TensorBoard wants a folder")
    with recording(job_in(tmp_path), True, None) as records:
        records.add(step(1))
    assert "FileExistsError" in tracker_failures(tmp_path)["tensorboard"]
    assert len(read_metrics(tmp_path / METRICS_FILE)) == 1


def test_a_tracker_that_hangs_holds_up_neither_step_nor_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()

    def start(run: TrackedRun) -> Any:
        hangs.wait()

    monkeypatch.setitem(TRACKERS, "wandb", TrackerKind(start, "json"))
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.2)
    with recording(job_in(tmp_path, "wandb"), True, None) as records:
        for number in range(1, 4):
            records.add(step(number))
    hangs.set()
    assert "still sends" in tracker_failures(tmp_path)["wandb"]
    assert json.loads((tmp_path / TRACKING_FILE).read_text())["id"] == training_id(tmp_path)
