"""What one training is asked to do, and the files that it leaves beside the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings

METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "training.json"
ERROR_FILE = "error.txt"
CARD_FILE = "README.md"
TRACKING_FILE = "tracking.json"
LOGS_FOLDER = "logs"
"""The trackers' own files: `tensorboard --logdir` finds them from the run directory down."""


def is_record(name: str) -> bool:
    """Return whether a file in the model's folder (named from there) tells of the training, not the model."""
    return name in (METRICS_FILE, SUMMARY_FILE, CARD_FILE, TRACKING_FILE) or name.startswith(
        f"{LOGS_FOLDER}/"
    )


def backend(use_gpu: bool) -> str:
    """Return the backends of torch.distributed: what is offloaded to hosts is reduced there, by gloo."""
    return "cpu:gloo,cuda:nccl" if use_gpu else "gloo"


class LoneWorkerError(UserError):
    """What stops one worker while the others wait for it: they have to be stopped too."""


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
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """The user's own DeepSpeed JSON (deepspeed_config.read_deepspeed_config)."""

    def to_json(self) -> str:
        """Return the job as text, for processes that Ray does not start."""
        values = {**vars(self), "settings": self.settings.model_dump(), "row_form": asdict(self.row_form)}
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> TrainJob:
        """Return the job that `to_json` wrote, or a user; raises UserError for anything else."""
        try:
            values = json.loads(text)
            settings = TrainSettings.model_validate(values.pop("settings"))
            row_form = RowForm(**values.pop("row_form", asdict(ALPACA)))
            return cls(**values, settings=settings, row_form=row_form)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"this is no training job: {' '.join(str(error).split())}") from error
