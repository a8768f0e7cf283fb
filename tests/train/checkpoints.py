"""Checkpoints that a test does not look at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.metrics import StepMetrics


def forget(metrics: StepMetrics, fill: Callable[[Path], Written]) -> None:
    """Give a folder to fill, and throw it away."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))()
