"""The trackers that show a training's curves: TensorBoard, Weights & Biases, MLflow. Pure.

Each may do over the network what it likes and raise what it likes: recording.py lets none of it reach the
training. Keys and addresses are taken by the packages themselves, from their own environment variables.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from alpagasus_ray.errors import UserError

PROJECT = "alpagasus"
"""The project (W&B) or experiment (MLflow), where WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME names no other."""
ID_TAG = "alpagasus.training"
CLOSE_TIMEOUT_S = 60.0
"""How long the end of a training waits for what is still on its way to a tracker."""
MAX_PARAM_CHARACTERS = 500
"""MLflow's oldest limit of a parameter's value."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a training before its first step."""

    id: str
    """The training's own, whatever interrupts it."""
    name: str
    folder: Path
    """For the tracker's own files; it is there."""
    settings: Mapping[str, Any]


class Tracker(Protocol):
    """Somewhere that curves are shown."""

    last_step: int
    """The last step that was there before this process began; those up to it are not sent again."""

    def log(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Add a step's values; `time_s` is when it ended, in seconds since 1970."""
        ...

    def close(self, is_done: bool) -> None:
        """Send what is left; `is_done` false: the training ended early."""
        ...


class TensorBoard:
    """Event files that `tensorboard --logdir` shows, written through tensorboardX."""

    last_step = 0

    def __init__(self, run: TrackedRun) -> None:
        from tensorboardX import SummaryWriter

        # Files of an earlier attempt may hold steps after the checkpoint: all steps are written anew.
        for file in run.folder.glob("events.out.tfevents.*"):
            file.unlink()
        self._writer = SummaryWriter(logdir=str(run.folder), flush_secs=10)

    def log(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Add a step's values to the event file."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=time_s)

    def close(self, is_done: bool) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases, or its files in the logs folder under WANDB_MODE=offline."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.name,
            config=dict(run.settings),
            dir=str(run.folder),
            resume="allow",
            settings=wandb.Settings(
                console="off",  # what the worker prints stays here
                finish_timeout=CLOSE_TIMEOUT_S,
                finish_timeout_raises=True,
            ),
        )
        # W&B takes no step that lies before its last one.
        self.last_step = self._run.step - 1

    def log(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Add a step's values; W&B sets the time itself."""
        self._run.log(dict(values), step=step)

    def close(self, is_done: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=0 if is_done else 1)


class MlFlow:
    """A run at the MLflow server, or in the store, that MLFLOW_TRACKING_URI names."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric = MlflowClient(), Metric
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        home = experiment.experiment_id if experiment else self._client.create_experiment(name)
        found = self._client.search_runs([home], f"tags.`{ID_TAG}` = '{run.id}'")
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(home, tags={ID_TAG: run.id}, run_name=run.name).info.run_id
            params = [
                Param(key, str(value)[:MAX_PARAM_CHARACTERS])
                for key, value in run.settings.items()
                if value is not None
            ]
            self._client.log_batch(self._id, params=params)
        there = self._client.get_metric_history(self._id, "loss") if found else []
        self.last_step = max((metric.step for metric in there), default=0)

    def log(self, step: int, values: Mapping[str, float], time_s: float) -> None:
        """Add a step's values."""
        metrics = [self._metric(key, value, int(time_s * 1000), step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, is_done: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, "FINISHED" if is_done else "FAILED", int(time.time() * 1000))


@dataclass(frozen=True)
class TrackerKind:
    """How a tracker is started, and what has to be there for it."""

    start: Callable[[TrackedRun], Tracker]
    package: str
    """The name to import, and to install."""
    variables: tuple[str, ...] = ()
    """Environment variables without which it has nowhere to write."""


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind(TensorBoard, "tensorboardX"),
    "wandb": TrackerKind(WeightsAndBiases, "wandb"),
    "mlflow": TrackerKind(MlFlow, "mlflow", ("MLFLOW_TRACKING_URI",)),
}
"""By the name that train.trackers takes."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a tracker whose package or environment variable is not there."""
    for name in names:
        kind = TRACKERS[name]
        if find_spec(kind.package) is None:
            raise UserError(
                f"train.trackers: {name} needs a package that is not installed: `pip install {kind.package}`"
            )
        for variable in kind.variables:
            if not os.environ.get(variable):
                raise UserError(
                    f"train.trackers: {name} needs the environment variable {variable}, its address"
                )
