"""What Ray's metrics show of a training: each of its steps, told by the first worker."""

from __future__ import annotations

from alpagasus_ray.metrics_table import (
    EPOCH,
    GRADIENT_NORM,
    LEARNING_RATE,
    LOSS,
    MFU,
    PEAK_MEMORY,
    STEP_TIME,
    STEPS,
    TOKENS_PER_SECOND,
    VALIDATION_LOSS,
)
from alpagasus_ray.ray_metrics import Meter
from alpagasus_ray.train.metrics import StepMetrics

BYTES_PER_GIB = 1 << 30


class StepMeter:
    """The metrics of one arm's training."""

    def __init__(self, arm: str) -> None:
        self._meter = Meter(arm=arm)
        self._before: StepMetrics | None = None

    def show(self, step: StepMetrics) -> None:
        """Count a step, and show its figures."""
        shown = {
            LOSS: step.loss,
            VALIDATION_LOSS: step.validation_loss,
            LEARNING_RATE: step.learning_rate,
            GRADIENT_NORM: step.gradient_norm,
            TOKENS_PER_SECOND: step.tokens_per_s,
            MFU: step.mfu,
            PEAK_MEMORY: step.peak_memory_gib * BYTES_PER_GIB,
            EPOCH: step.epoch,
        }
        for metric, value in shown.items():
            if value is not None:
                self._meter.show(metric, value)
        self._meter.add(STEPS, 1)
        if self._before is not None:
            self._meter.observe(STEP_TIME, step.train_time_s - self._before.train_time_s)
        self._before = step
