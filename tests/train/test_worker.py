"""One whole training in one process: what it writes down besides the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.collate import IGNORED, collate
from alpagasus_ray.train.examples import build_examples
from alpagasus_ray.train.job import LOGS_FOLDER, METRICS_FILE, SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import SCALARS, StepMetrics, read_metrics
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.validation import hold_out
from alpagasus_ray.train.worker import run_worker
from tests.train.checkpoints import forget
from tests.train.tracked import event_curves

pytestmark = pytest.mark.slow
ROWS, SHARE, SEED = 48, 0.25, 42


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "train.json"
    file.write_text(json.dumps(generate_rows(ROWS, 0.5, 2)))
    return file


def trained(folder: Path, base: Path, rows: Path, share: float) -> list[dict[str, Any]]:
    """Train 2 epochs in batches of 12 rows; return the lines of metrics.jsonl."""
    settings = TrainSettings(
        strategy="single",
        workers=1,
        epochs=2,
        learning_rate=1e-3,
        global_batch_size=12,
        max_length_tokens=256,
        precision="fp32",
        validation_share=share,
        seed=SEED,
    )
    folder.mkdir()
    seen: list[StepMetrics] = []

    run_worker(TrainJob(str(base), str(rows), str(folder), settings), None, forget, seen.append)
    lines = read_metrics(folder / METRICS_FILE)
    assert [metrics.to_dict() for metrics in seen] == lines
    return lines


@pytest.fixture(scope="module")
def lines(
    tiny_model: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """A training that held out a quarter of its rows: its folder, and its steps."""
    folder = tmp_path_factory.mktemp("held-out") / "model"
    return folder, trained(folder, tiny_model, rows_file, SHARE)


def test_tensorboard_shows_the_lines_of_the_metrics_file(lines: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, steps = lines
    curves = event_curves(folder / LOGS_FOLDER)
    assert set(curves) == set(SCALARS) - {"mfu"}, "there is no GPU here"
    for name, points in curves.items():
        expected = [(line["step"], line[name]) for line in steps if line[name] is not None]
        assert points == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected], name


def test_the_loss_on_held_out_rows_is_that_of_the_exported_model(
    lines: tuple[Path, list[dict[str, Any]]], tiny_model: Path, rows_file: Path
) -> None:
    folder, steps = lines
    measured = [line["step"] for line in steps if line["validation_loss"] is not None]
    assert measured == [3, 6] and len(steps) == 6, "at the end of each epoch, of 36 rows each"
    tokenizer = load_tokenizer(str(tiny_model))
    examples, _ = build_examples(json.loads(rows_file.read_text()), tokenizer, 256)
    _, held_out = hold_out(examples, SHARE, SEED)
    model = load_model(str(folder), tokenizer).eval()
    batch = collate(held_out, tuple((index,) for index in range(len(held_out))), 0, torch.device("cpu"))
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    direct = torch.nn.functional.cross_entropy(logits[targets != IGNORED], targets[targets != IGNORED])
    assert steps[-1]["validation_loss"] == pytest.approx(float(direct), rel=1e-5)
    assert steps[-1]["validation_loss"] < steps[2]["validation_loss"] - 0.05, "it did not learn"


def test_the_other_rows_alone_are_trained_on(
    lines: tuple[Path, list[dict[str, Any]]], tiny_model: Path, rows_file: Path, tmp_path: Path
) -> None:
    """A training on a file of just those rows has the same losses, to the bit."""
    folder, steps = lines
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    assert (summary["examples"], summary["validation_examples"]) == (36, 12)
    rows = json.loads(rows_file.read_text())
    examples, _ = build_examples(rows, load_tokenizer(str(tiny_model)), 256)
    training, _ = hold_out(examples, SHARE, SEED)
    alone = tmp_path / "alone.json"
    kept = [row for row, example in zip(rows, examples, strict=True) if example in training]
    alone.write_text(json.dumps(kept))
    other = trained(tmp_path / "model", tiny_model, alone, 0.0)
    assert [line["loss"] for line in other] == [line["loss"] for line in steps]
    assert {line["validation_loss"] for line in other} == {None}


def test_rates_are_of_real_tokens(lines: tuple[Path, list[dict[str, Any]]]) -> None:
    _, steps = lines
    spent_s = steps[-1]["train_time_s"]
    assert all(line["tokens_per_s"] * spent_s > line["target_tokens"] for line in steps)
    assert all(0.05 < line["peak_memory_gib"] < 64 for line in steps), "GiB of this process"
