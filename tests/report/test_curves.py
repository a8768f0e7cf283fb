"""Curves read from a training's lines, and the picture of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.report.collecting import Arm
from alpagasus_ray.report.curves import MAX_POINTS, read_curves
from alpagasus_ray.report.training_figures import training_curves

LINES = [
    {"step": 1, "loss": 3.0, "learning_rate": 1e-3, "gradient_norm": 0.9, "validation_loss": None},
    {"step": 2, "loss": 9.0, "learning_rate": 2e-3, "gradient_norm": float("inf"), "validation_loss": 9.0},
    {"step": 2, "loss": 2.5, "learning_rate": 2e-3, "gradient_norm": 0.8, "validation_loss": 2.75},
]


def curves_of(tmp_path: Path, lines: list[dict[str, Any]]) -> dict[str, Any]:
    run = RunDirectory(str(tmp_path))
    run.write_text("models/full/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return read_curves(run, "models/full")


def test_a_step_that_was_done_twice_counts_once(tmp_path: Path) -> None:
    assert curves_of(tmp_path, LINES) == {
        "loss": ((1, 3.0), (2, 2.5)),
        "learning_rate": ((1, 1e-3), (2, 2e-3)),
        "gradient_norm": ((1, 0.9), (2, 0.8)),
        "validation_loss": ((2, 2.75),),
    }


def test_what_was_not_written_or_is_no_number_has_no_curve(tmp_path: Path) -> None:
    assert set(curves_of(tmp_path, LINES[:1])) == {"loss", "learning_rate", "gradient_norm"}
    assert set(curves_of(tmp_path, LINES[1:2])) == {"loss", "learning_rate", "validation_loss"}
    assert read_curves(RunDirectory(str(tmp_path / "other")), "models/full") == {}


@pytest.mark.parametrize("steps", [MAX_POINTS, MAX_POINTS + 1, 10_000])
def test_long_trainings_are_thinned_to_their_means(tmp_path: Path, steps: int) -> None:
    points = curves_of(tmp_path, [{"step": step, "loss": step} for step in range(1, steps + 1)])["loss"]
    assert MAX_POINTS / 2 < len(points) <= MAX_POINTS and points[-1][0] == steps
    assert [value for _, value in points] == sorted(value for _, value in points)


def arm_with(tmp_path: Path, lines: list[dict[str, Any]]) -> Arm:
    curves = curves_of(tmp_path, lines)
    losses = curves.pop("loss")
    return Arm("full", "full", {}, 4, 0, 1.0, 6.5, {}, losses, curves)


def test_the_picture_shows_what_there_is(tmp_path: Path) -> None:
    whole = training_curves(arm_with(tmp_path, LINES)).svg
    for words in ("loss", "training", "validation", "learning rate", "gradient norm", "optimizer step"):
        assert f">{words}<" in whole, words
    plain = training_curves(arm_with(tmp_path, LINES[:1])).svg
    assert ">gradient norm<" in plain and ">validation<" not in plain
