"""The same training under plain torchrun: no Ray anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.train.job import SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import read_metrics


def run(job: Path, checkpoints: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "alpagasus_ray.train.torchrun", str(job), str(checkpoints)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
def test_two_workers_train_and_go_on_from_their_checkpoint(
    selected_run: RunDirectory, train_recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    out, job, checkpoints = tmp_path / "model", tmp_path / "job.json", tmp_path / "checkpoints"
    out.mkdir()
    asked = TrainJob(str(tiny_model), selected_run.path("arms/full/train.json"), str(out), train_recipe.train)
    job.write_text(asked.to_json())
    done = run(job, checkpoints)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [line["loss"] for line in read_metrics(out / "metrics.jsonl")]
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.5
    assert (out / "model.safetensors").exists() and (out / "tokenizer.json").exists()

    shutil.rmtree(out)
    out.mkdir()
    assert run(job, checkpoints).returncode == 0
    assert json.loads((out / SUMMARY_FILE).read_text())["resumed_from_step"] == 8
    assert [line["loss"] for line in read_metrics(out / "metrics.jsonl")] == losses


@pytest.mark.parametrize("form", [ALPACA, RowForm("chat"), ALPACA.with_columns({"instruction": "prompt"})])
def test_a_job_stays_itself_as_text(train_recipe: Recipe, form: RowForm) -> None:
    job = TrainJob("base", "train.json", "out", train_recipe.train, form, {"zero_optimization": {"stage": 1}})
    assert TrainJob.from_json(job.to_json()) == job


@pytest.mark.slow
@pytest.mark.parametrize("module", ["alpagasus_ray.train.torchrun", "benchmarks.training"])
def test_no_ray_and_no_vllm_need_be_installed(module: str) -> None:
    program = (
        "import importlib, sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('ray', 'vllm'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"importlib.import_module({module!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
