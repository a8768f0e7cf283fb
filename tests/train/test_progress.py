"""What is shown of a training that writes into its folder."""

from __future__ import annotations

import io
import json
from pathlib import Path

from alpagasus_ray.console import Console
from alpagasus_ray.train.job import TRACKING_FILE
from alpagasus_ray.train.progress import shown_progress


def test_a_failed_tracker_is_said_once(tmp_path: Path) -> None:
    error = io.StringIO()
    with shown_progress(tmp_path, "filtered", Console(io.StringIO(), error)):
        state = {"id": "1", "failures": {"wandb": "CommError: no network"}}
        (tmp_path / TRACKING_FILE).write_text(json.dumps(state))
    said = "train filtered: no more figures go to wandb, training goes on: CommError: no network"
    assert error.getvalue().count(said) == 1


def test_without_failures_nothing_is_said(tmp_path: Path) -> None:
    error = io.StringIO()
    with shown_progress(tmp_path, "filtered", Console(io.StringIO(), error)):
        pass
    assert error.getvalue() == ""
