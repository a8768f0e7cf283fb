"""The same training under plain torchrun: no Ray anywhere."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from alpagasus_ray import console
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import Recipe, TrainSettings
from alpagasus_ray.train import torchrun
from alpagasus_ray.train.job import METRICS_FILE, SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import read_metrics


def command(job: Path, checkpoints: Path, workers: int = 2) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    return [*torchrun, "-m", "alpagasus_ray.train.torchrun", str(job), str(checkpoints)]


def run(job: Path, checkpoints: Path, workers: int = 2) -> subprocess.CompletedProcess[str]:
    asked = command(job, checkpoints, workers)
    return subprocess.run(asked, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.slow
def test_a_killed_worker_ends_it_and_one_worker_alone_goes_on_to_the_losses_of_two(
    selected_run: RunDirectory, train_recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    settings = train_recipe.train.model_copy(update={"epochs": 5, "checkpoint_every_steps": 4})
    settings = settings.model_copy(update={"keep_checkpoints": 2})
    folders = whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in folders:
        (folder / "model").mkdir(parents=True)
        rows, out = selected_run.path("arms/full/train.json"), str(folder / "model")
        (folder / "job.json").write_text(TrainJob(str(tiny_model), rows, out, settings).to_json())

    def losses(folder: Path) -> list[float]:
        return [line["loss"] for line in read_metrics(folder / "model/metrics.jsonl")]

    done = run(whole / "job.json", whole / "checkpoints")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count(f"train model: done, the model is in {whole / 'model'}\n") == 1
    assert len(losses(whole)) == 20 and losses(whole)[-1] < losses(whole)[0] - 0.5
    assert (whole / "model/model.safetensors").exists() and (whole / "model/tokenizer.json").exists()
    kept = {path.name for path in (whole / "checkpoints").glob("step-*")}
    assert kept == {"step-000000016", "step-000000020"}, "keep_checkpoints"

    with subprocess.Popen(command(broken / "job.json", broken / "checkpoints"), stderr=-1) as process:
        until_s = time.monotonic() + 300
        while len(losses(broken)) < 10:
            assert time.monotonic() < until_s and process.poll() is None
            time.sleep(0.02)
        random.choice(psutil.Process(process.pid).children()).kill()
        process.communicate(timeout=100)
    assert process.returncode != 0 and not (broken / "model/model.safetensors").exists()
    told = run(broken / "job.json", broken / "checkpoints", workers=1)
    assert "say 2 workers and torchrun has started 1: leave workers out" in told.stderr
    alone = settings.model_copy(update={"workers": 1, "keep_checkpoints": 0})
    other = alone.model_copy(update={"learning_rate": 2e-3})
    out = str(broken / "model")
    (tmp_path / "other.json").write_text(TrainJob(str(tiny_model), rows, out, other).to_json())
    refused = run(tmp_path / "other.json", broken / "checkpoints", workers=1)
    assert "holds the checkpoints of a training with another learning_rate" in refused.stderr

    (tmp_path / "alone.json").write_text(TrainJob(str(tiny_model), rows, out, alone).to_json())
    done = run(tmp_path / "alone.json", broken / "checkpoints", workers=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list((broken / "checkpoints").glob("step-*")), "none is to stay when the model is done"
    summary = json.loads((broken / "model" / SUMMARY_FILE).read_text())
    assert summary["resumed_from_step"] in (8, 12, 16) and summary["world_size"] == 1
    assert losses(broken) == pytest.approx(losses(whole), abs=1e-4)


@pytest.mark.slow
def test_what_would_stop_a_training_is_one_line_before_it_begins(
    selected_run: RunDirectory, train_recipe: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    settings = train_recipe.train.model_copy(update={"global_batch_size": 65})
    asked = TrainJob(str(tiny_model), selected_run.path("arms/full/train.json"), str(tmp_path), settings)
    (tmp_path / "job.json").write_text(asked.to_json())
    done = run(tmp_path / "job.json", tmp_path / "checkpoints")
    assert done.returncode != 0 and "alpagasus_ray/train/" not in done.stderr, "no traceback of ours"
    assert "alpagasus: the arm has 64 rows to train on and a global batch takes 65" in done.stderr


@pytest.mark.slow
def test_workers_are_those_that_torchrun_has_started() -> None:
    from alpagasus_ray.train.torchrun import with_all_workers

    def job(**settings: object) -> TrainJob:
        return TrainJob("base", "train.json", "out", TrainSettings.model_validate(settings))

    assert with_all_workers(job(), 8).settings.workers == 8, "left out, they are counted"
    assert with_all_workers(job(workers=8), 8).settings.workers == 8
    with pytest.raises(UserError, match=r"say 8 workers and torchrun has started 4"):
        with_all_workers(job(workers=8), 4)
    alone = job(strategy="single", workers=1)
    assert with_all_workers(alone, 1).settings.workers == 1
    with pytest.raises(UserError, match=r"single is one process and torchrun has started 2"):
        with_all_workers(alone, 2)


@pytest.mark.parametrize("form", [ALPACA, RowForm("chat"), ALPACA.with_columns({"instruction": "prompt"})])
def test_a_job_stays_itself_as_text(train_recipe: Recipe, form: RowForm) -> None:
    job = TrainJob("base", "train.json", "out", train_recipe.train, form, {"zero_optimization": {"stage": 1}})
    assert TrainJob.from_json(job.to_json()) == job


def test_a_job_may_be_written_by_hand() -> None:
    job = TrainJob.from_json(
        '{"model": "m", "train_file": "f", "export_folder": "o", "settings": {"epochs": 2}}'
    )
    assert (job.settings.epochs, job.row_form) == (2, ALPACA)
    for text in (
        "[]",
        "{",
        '{"model": "m"}',
        '{"settings": {"epoch": 2}}',
        '{"settings": {}, "modell": "m"}',
    ):
        with pytest.raises(UserError, match="no training job") as error:
            TrainJob.from_json(text)
        assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_worker_alone_tells_how_far_it_is(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchrun.dist, "get_rank", lambda: rank)
    monkeypatch.setattr(console, "LINE_EVERY_S", 0)
    folder = tmp_path / "model"
    folder.mkdir()
    line = {"step": 1190, "num_steps": 2000, "loss": 1.5}
    (folder / METRICS_FILE).write_text(json.dumps(line) + "\n")  # of an earlier attempt
    with torchrun._progress(TrainJob("base", "train.json", str(folder), TrainSettings())):
        time.sleep(1)
        (folder / METRICS_FILE).write_text(json.dumps({**line, "step": 3}) + "\n")
        time.sleep(2)
    told = capsys.readouterr().err
    assert ("train model: 3/2,000 steps" in told and "loss 1.500" in told) == (rank == 0)
    assert "1,190" not in told
