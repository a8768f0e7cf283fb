"""A large arm is put into tokens by Ray Data: the same examples in the same order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.train.checkpoint_storage import checkpoint_storage
from alpagasus_ray.train.job import SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import read_metrics
from alpagasus_ray.train.models import load_tokenizer
from alpagasus_ray.train.ray_tokenizing import in_tokens
from alpagasus_ray.train.ray_workers import fit
from alpagasus_ray.train.token_table import TokenTable
from alpagasus_ray.train.tokenizing import ROWS_PER_TABLE, read_rows, tokenised_arm

pytestmark = pytest.mark.slow


@pytest.fixture
def job(train_recipe: Recipe, tiny_model: Path, tmp_path: Path) -> TrainJob:
    rows = generate_rows(2 * ROWS_PER_TABLE + 100, 0.5, 1)
    rows[ROWS_PER_TABLE + 5]["output"] = ""
    rows[7]["instruction"] = "Tell me of everything. " * 200
    # Of another form in every block: what stands in other columns is nobody's business here.
    rows[3]["notes"], rows[ROWS_PER_TABLE + 3]["notes"] = 1, {"by": ["me"]}
    (tmp_path / "train.json").write_text(json.dumps(rows))
    (tmp_path / "model").mkdir()
    train_file, export_folder = str(tmp_path / "train.json"), str(tmp_path / "model")
    return TrainJob(str(tiny_model), train_file, export_folder, train_recipe.train)


def test_ray_data_makes_the_examples_that_a_worker_would_in_their_order(job: TrainJob) -> None:
    with RaySession() as session:
        session.connect()
        blocks = in_tokens(job, read_rows(job))
        table = TokenTable(blocks.iter_batches(batch_size=None, batch_format="pyarrow"))
    alone = TokenTable(tokenised_arm(job, load_tokenizer(job.model)))
    assert len(table) == 2 * ROWS_PER_TABLE + 98
    assert list(table) == list(alone)
    assert table.dropped == alone.dropped and table.dropped["prompt fills max_length_tokens"] == 1


def test_workers_train_on_what_is_streamed_to_them(job: TrainJob, tmp_path: Path) -> None:
    """Two workers, to the losses of the same workers that tokenise by themselves."""
    seen = {}
    run = RunDirectory(str(tmp_path / "run"))
    settings = job.settings.model_copy(update={"epochs": 1, "global_batch_size": 512})
    with RaySession() as session:
        session.connect()
        for from_rows in (1, 10_000):
            folder = tmp_path / str(from_rows)
            folder.mkdir()
            asked = replace(job, settings=settings, export_folder=str(folder))
            fit(asked, checkpoint_storage(run, settings, "full"), folder.name, False, from_rows)
            summary = json.loads((folder / SUMMARY_FILE).read_text())
            assert summary["examples"] == 2 * ROWS_PER_TABLE + 98 and sum(summary["dropped"].values()) == 2
            seen[from_rows] = [line["loss"] for line in read_metrics(folder / "metrics.jsonl")]
    assert seen[1] == seen[10_000] and len(seen[1]) == 5
