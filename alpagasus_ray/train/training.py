"""Training on Ray: one arm, on as many workers as the recipe says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, duration
from alpagasus_ray.corpus.row_forms import RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import TOYWORLD, Recipe, TrainSettings
from alpagasus_ray.train.base_models import check_base_model, fingerprint
from alpagasus_ray.train.checking import check_cluster, check_inputs, worker_resource
from alpagasus_ray.train.checkpoint_storage import CheckpointStorage, checkpoint_storage
from alpagasus_ray.train.deepspeed_config import read_deepspeed_config
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import last_metrics, read_metrics
from alpagasus_ray.train.model_card import CARD_FILE
from alpagasus_ray.train.ray_workers import fit

POLL_EVERY_S = 0.5


def train(run: RunDirectory, recipe: Recipe, arm: str, session: RaySession, console: Console) -> Manifest:
    """Commit RUN/models/<arm>/, a Hugging Face folder, and return its manifest.

    Started again after a crash, it goes on from the last checkpoint. Raises UserError, before a worker
    starts, for what checking.py looks for: room on the cluster, tokenizer, rows, prompts.
    """
    rows = run.require(run.arm(arm), f"select --arm {arm}")
    model, base = base_model(run, recipe)
    own = read_deepspeed_config(recipe.train.deepspeed_config)
    settings = {**recipe.train.shapes_result(), "base_model": base, **({"deepspeed": own} if own else {})}
    row_form = RowForm.from_json(rows.details.get("row_form"))
    folder, train_file = run.local_path(run.model(arm)), run.local_path(f"{run.arm(arm)}/train.json")
    job = TrainJob(model, str(train_file), str(folder), recipe.train, row_form, own)
    # Each strategy has checkpoints of its own form; other workers or micro-batches can go on from them.
    attempt = settings_hash({**settings, "strategy": recipe.train.strategy, "rows": rows.content})
    manifest, worked = run.make(
        run.model(arm),
        "train",
        settings,
        {run.arm(arm): rows},
        lambda: _train(run, job, arm, attempt, session, console),
        check=lambda: _check(job, checkpoint_storage(run, recipe.train, arm), attempt, session, console),
    )
    details = manifest.details
    console.say(
        f"train: {arm}, {manifest.counts['examples']:,} rows, {manifest.counts['steps']:,} steps in "
        f"{duration(details['train_time_s'])}, loss {details['final_loss']:.3f}"
        + ("" if worked else " (done before)")
    )
    return manifest


def base_model(run: RunDirectory, recipe: Recipe) -> tuple[str, str]:
    """Return where the base model is, and what names its content in a manifest."""
    if recipe.train.model is None:
        raise UserError("no base model: give --model FOLDER (or --set train.model=FOLDER)")
    if recipe.train.model == TOYWORLD:
        content = run.require(run.toyworld, "demo").content
        return str(run.local_path(f"{run.toyworld}/base-model")), content
    check_base_model(recipe.train.model)
    folder = Path(recipe.train.model).expanduser()
    # Workers have another working directory: they get the whole path. A hub id stays as it is.
    model = str(folder.resolve()) if folder.exists() else recipe.train.model
    return model, fingerprint(model)


def _check(
    job: TrainJob, storage: CheckpointStorage, attempt: str, session: RaySession, console: Console
) -> None:
    storage.prepare(attempt)
    check_cluster(job.settings, session.connect())
    if set_aside := check_inputs(job):
        console.say(f"train: {set_aside}")


def _train(
    run: RunDirectory, job: TrainJob, arm: str, attempt: str, session: RaySession, console: Console
) -> Made:
    folder = Path(job.export_folder)
    storage = checkpoint_storage(run, job.settings, arm)
    with _shown_progress(folder / METRICS_FILE, arm, console):
        fit(job, storage, attempt, worker_resource(session.connect()) == "GPU")
    if (folder / ERROR_FILE).exists():
        raise UserError(f"training arm {arm}: {(folder / ERROR_FILE).read_text(encoding='utf-8')}")
    if not job.settings.keep_checkpoints:
        storage.drop(attempt)
    return _made(run, arm, job.settings)


@contextmanager
def _shown_progress(metrics_file: Path, arm: str, console: Console) -> Iterator[None]:
    """Show the steps that the first worker writes down, while the trainer runs."""
    stop = threading.Event()

    def watch() -> None:
        with console.progress(f"train {arm}", 0, "steps") as progress:
            while not stop.wait(POLL_EVERY_S):
                if last := last_metrics(metrics_file):
                    progress.show(last["step"], f"loss {last['loss']:.3f}", total=last["num_steps"])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _made(run: RunDirectory, arm: str, settings: TrainSettings) -> Made:
    folder = run.local_path(run.model(arm))
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    last = read_metrics(folder / METRICS_FILE)[-1]
    about = (METRICS_FILE, SUMMARY_FILE, CARD_FILE)
    weights = [name for name in run.list_files(run.model(arm)) if name not in about]
    return Made(
        counts={
            "examples": summary["examples"],
            "dropped_examples": sum(summary["dropped"].values()),
            "steps": last["num_steps"],
            "target_tokens": summary["target_tokens"],
        },
        failures=summary["dropped"],
        details={
            "train_time_s": last["train_time_s"],
            "final_loss": last["loss"],
            "model": settings.model,
            "workers": summary["world_size"],
            "strategy": settings.strategy,
            "parameters": summary["parameters"],
            "trained_parameters": summary["trained_parameters"],
            "sharded_tensors": f"{summary['sharded_tensors']} of {summary['tensors']}",
            "resumed_from_step": summary["resumed_from_step"],
        },
        content=run.content_of_files(run.model(arm), weights),
    )
