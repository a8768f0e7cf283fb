"""What is known of each optimizer step, and the file that it is written to. Pure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TAIL_BYTES = 4096
"""Longer than any line."""
SCALARS = (
    "loss",
    "validation_loss",
    "learning_rate",
    "gradient_norm",
    "tokens_per_s",
    "mfu",
    "peak_memory_gib",
    "epoch",
)
"""The figures of a step that trackers show as curves."""


@dataclass(frozen=True)
class StepMetrics:
    """What is known of one optimizer step."""

    step: int
    """From 1."""
    num_steps: int
    epoch: float
    loss: float
    """Mean over the global batch's target tokens, in nats."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    target_tokens: int
    train_time_s: float
    """Time in the loop so far, interrupted attempts not counted."""
    workers: int
    """An elastic training changes them."""
    tokens_per_s: float
    """Of this step, over all workers: prompts' tokens count, padding does not."""
    mfu: float | None
    """Model FLOPs utilisation (arXiv 2204.02311, appendix B): the arithmetic that the tokens need, over the
    peak of all GPUs in that time; what is worked out a second time does not count. None on CPUs, on GPUs
    whose peak is not known, and for models of another form than Llama's."""
    peak_memory_gib: float
    """The most that the first worker has held so far: of its GPU, or where it has none of the host."""
    validation_loss: float | None = None
    """Mean over the target tokens of the rows that are held out, in nats; None between checkpoints."""

    def to_dict(self) -> dict[str, Any]:
        """Return a line of metrics.jsonl."""
        return asdict(self)


class MetricsFile:
    """One JSON object a step, written by the first worker."""

    def __init__(self, path: Path, is_writer: bool) -> None:
        self._path, self._is_writer = path, is_writer

    def start(self, checkpoint: Path | None) -> None:
        """Begin with the lines that stand in a checkpoint: later ones will be done again."""
        if not self._is_writer:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        if checkpoint is not None:
            shutil.copy(checkpoint / self._path.name, self._path)

    def copy_into(self, checkpoint: Path) -> None:
        """Put the lines so far into a checkpoint."""
        if self._is_writer:
            shutil.copy(self._path, checkpoint / self._path.name)

    def add(self, metrics: StepMetrics) -> None:
        """Write a step's line."""
        if self._is_writer:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics.to_dict()) + "\n")


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """Return what a line of metrics.jsonl has to show as curves, by name; what is None is left out."""
    return {name: float(line[name]) for name in SCALARS if line.get(name) is not None}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the steps in a metrics file; a last line that is still being written does not count."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def last_metrics(path: Path) -> dict[str, Any] | None:
    """Return the last whole line of a metrics file, however long the file is."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    last: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    return last
