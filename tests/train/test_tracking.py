"""Each tracker really written to, and read back from its own files."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.tracking import TRACKERS, TrackedRun, TrackerKind, check_trackers
from tests.train.tracked import event_curves

LOSSES = [(1, 3.0), (2, 2.5), (3, 2.25)]


@pytest.fixture
def tracked_run(tmp_path: Path) -> TrackedRun:
    folder = tmp_path / "logs"
    folder.mkdir()
    return TrackedRun("0123abcd", "filtered", folder, TrainSettings().model_dump())


def log(tracker: str, run: TrackedRun, steps: list[tuple[int, float]], is_done: bool = True) -> int:
    """Write losses to a tracker; return the last step that it had before."""
    made = TRACKERS[tracker].start(run)
    for step, loss in steps:
        made.log(step, {"loss": loss, "learning_rate": 1e-3}, time.time())
    made.close(is_done)
    return made.last_step


def test_every_tracker_of_the_recipe_is_there() -> None:
    (choices,) = TrainSettings.model_fields["trackers"].annotation.__args__[:1]  # type: ignore[union-attr]
    assert set(choices.__args__) == set(TRACKERS)


def test_tensorboard_gets_every_curve_in_its_own_form(tracked_run: TrackedRun) -> None:
    assert log("tensorboard", tracked_run, LOSSES) == 0
    curves = event_curves(tracked_run.folder)
    assert curves["loss"] == LOSSES and set(curves) == {"loss", "learning_rate"}


def test_tensorboard_forgets_an_earlier_attempt(tracked_run: TrackedRun) -> None:
    """The steps up to the checkpoint are written again, those after it were never made."""
    log("tensorboard", tracked_run, [(1, 3.0), (2, 9.0), (3, 9.0)])
    log("tensorboard", tracked_run, LOSSES)
    assert event_curves(tracked_run.folder)["loss"] == LOSSES


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_writes_a_run_without_a_network(
    tracked_run: TrackedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    assert log("wandb", tracked_run, LOSSES) < 1
    (file,) = tracked_run.folder.glob("wandb/offline-run-*/run-0123abcd.wandb")
    written = file.read_bytes()
    assert b"filtered" in written and b"learning_rate" in written and b"2.25" in written
    assert b"global_batch_size" in written, "the settings of the training"


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_goes_on_with_the_run_of_the_same_training(
    tracked_run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    assert log("mlflow", tracked_run, LOSSES[:2], is_done=False) == 0
    assert log("mlflow", tracked_run, LOSSES[2:]) == 2
    client = MlflowClient()
    experiment = client.get_experiment_by_name("alpagasus")
    (run,) = client.search_runs([experiment.experiment_id])
    there = client.get_metric_history(run.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in there) == LOSSES
    assert (run.info.run_name, run.info.status) == ("filtered", "FINISHED")
    assert run.data.params["global_batch_size"] == "128"


def test_a_package_that_is_not_installed_is_named_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", TrackerKind(TRACKERS["wandb"].start, "no_such_package"))
    with pytest.raises(UserError, match=r"wandb needs .* `pip install no_such_package`"):
        check_trackers(("tensorboard", "wandb"))
    check_trackers(("tensorboard",))


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_is_installed_by_its_name() -> None:
    with pytest.raises(UserError, match="pip install wandb"):
        check_trackers(("wandb",))


def test_a_tracker_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = TrackerKind(TRACKERS["mlflow"].start, "json", TRACKERS["mlflow"].variables)
    monkeypatch.setitem(TRACKERS, "mlflow", kind)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        check_trackers(("mlflow",))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    check_trackers(("mlflow",))
