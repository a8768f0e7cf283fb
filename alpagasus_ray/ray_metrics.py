"""Ray's metrics, as the table has them. What Ray does not take is passed over: no run hangs on it."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

from alpagasus_ray.metrics_table import Metric


class Meter:
    """Metrics under the same labels. A call takes microseconds: once a chunk or a step, not once a row."""

    def __init__(self, **labels: str) -> None:
        self._labels = labels

    def add(self, metric: Metric, amount: float, **more: str) -> None:
        """Raise a counter; `more` are the labels of its own."""
        if amount > 0:
            with suppress(Exception):
                _of_ray(metric).inc(amount, {**self._labels, **more})

    def show(self, metric: Metric, value: float) -> None:
        """Set a gauge."""
        with suppress(Exception):
            _of_ray(metric).set(value, self._labels)

    def observe(self, metric: Metric, value: float) -> None:
        """Count a value into a histogram."""
        with suppress(Exception):
            _of_ray(metric).observe(value, self._labels)


@cache
def _of_ray(metric: Metric) -> Any:
    from ray.util.metrics import Counter, Gauge, Histogram

    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, list(metric.buckets), metric.labels)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.help, metric.labels)
