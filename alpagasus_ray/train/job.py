"""What one training is asked to do, and the files that it leaves beside the model."""

from __future__ import annotations

from dataclasses import dataclass

from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.recipe import TrainSettings

METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "training.json"
ERROR_FILE = "error.txt"


@dataclass(frozen=True)
class TrainJob:
    """What to train, from what, and where to."""

    model: str
    """Hugging Face folder or hub id of the base model."""
    train_file: str
    """The arm's train.json."""
    export_folder: str
    """Where the first worker writes the trained Hugging Face folder."""
    settings: TrainSettings
    row_form: RowForm = ALPACA
    """Where the rows of train.json hold their texts."""
