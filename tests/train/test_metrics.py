"""The file of a training's steps, and what of it is shown as curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from alpagasus_ray.train.metrics import SCALARS, MetricsFile, StepMetrics, read_metrics, scalars

STEP = StepMetrics(
    step=3,
    num_steps=8,
    epoch=0.75,
    loss=2.5,
    learning_rate=1e-3,
    gradient_norm=0.8,
    target_tokens=400,
    train_time_s=6.5,
    workers=1,
    tokens_per_s=1234.5,
    mfu=None,
    peak_memory_gib=0.5,
)


def test_curves_are_what_has_a_value() -> None:
    assert set(scalars(STEP.to_dict())) == set(SCALARS) - {"mfu", "validation_loss"}
    known = replace(STEP, mfu=0.4, validation_loss=2.75)
    assert scalars(known.to_dict())["validation_loss"] == 2.75
    assert set(scalars(known.to_dict())) == set(SCALARS)


def test_lines_of_an_earlier_version_are_curves_as_well() -> None:
    assert scalars({"step": 1, "loss": 3, "learning_rate": 0.0}) == {"loss": 3.0, "learning_rate": 0.0}


def test_steps_after_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    file = MetricsFile(tmp_path / "metrics.jsonl", is_writer=True)
    file.start(None)
    file.add(STEP)
    file.copy_into(checkpoint)
    file.add(replace(STEP, step=4))
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [3, 4]
    file.start(checkpoint)
    assert read_metrics(tmp_path / "metrics.jsonl") == [STEP.to_dict()]
