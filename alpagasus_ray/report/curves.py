"""The curves of a training, read from its metrics.jsonl and thinned to what a picture can show."""

from __future__ import annotations

import json
import math

from alpagasus_ray.artifacts import RunDirectory

CURVES = ("loss", "validation_loss", "learning_rate", "gradient_norm")
MAX_POINTS = 300

Points = tuple[tuple[int, float], ...]
"""(step, value), by step."""


def read_curves(run: RunDirectory, folder: str) -> dict[str, Points]:
    """Return the curves of a model's folder by name, without those that nothing was written of."""
    path = f"{folder}/metrics.jsonl"
    lines = [json.loads(line) for line in run.read_text(path).splitlines()] if run.exists(path) else []
    # Training that went on from a checkpoint writes the steps since then a second time: the last counts.
    by_step = {line["step"]: line for line in lines}
    curves: dict[str, Points] = {}
    for name in CURVES:
        values = ((step, number(by_step[step].get(name))) for step in sorted(by_step))
        if points := [(step, value) for step, value in values if value is not None]:
            curves[name] = thinned(points)
    return curves


def thinned(points: list[tuple[int, float]]) -> Points:
    """Return at most MAX_POINTS points: the means of even blocks, each at its last step."""
    size = math.ceil(len(points) / MAX_POINTS) or 1
    blocks = [points[start : start + size] for start in range(0, len(points), size)]
    return tuple((block[-1][0], sum(value for _, value in block) / len(block)) for block in blocks)


def number(value: object) -> float | None:
    """Return a finite number, or None: a diverged training's NaN has no place on an axis."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
