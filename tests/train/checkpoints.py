"""Checkpoints: those that a test does not look at, and when one counts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.metrics import StepMetrics


def forget(metrics: StepMetrics, fill: Callable[[Path], Written]) -> None:
    """Give a folder to fill, and throw it away."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))()


def a_checkpoint_counts(run: RunDirectory, arm: str) -> bool:
    """Return whether Ray Train's controller has noted one: its files are there some time before."""
    folder = f"checkpoints/{arm}"
    notes = [name for name in run.list_files(folder) if name.endswith("/checkpoint_manager_snapshot.json")]
    return any("checkpoint_dir_name" in run.read_text(f"{folder}/{name}") for name in notes)
