"""Training on Ray: one arm, on as many workers as the recipe says."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, duration
from alpagasus_ray.corpus.row_forms import RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import TOYWORLD, Recipe, TrainSettings
from alpagasus_ray.train.base_models import check_base_model, fingerprint, torch_has_cuda
from alpagasus_ray.train.deepspeed_config import read_deepspeed_config
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, SUMMARY_FILE, TrainJob, is_record
from alpagasus_ray.train.metrics import SCALARS, StepMetrics, read_metrics, scalars
from alpagasus_ray.train.progress import shown_progress
from alpagasus_ray.train.recording import tracker_failures
from alpagasus_ray.train.tracking import check_trackers


def train(run: RunDirectory, recipe: Recipe, arm: str, session: RaySession, console: Console) -> Manifest:
    """Commit RUN/models/<arm>/, a Hugging Face folder, and return its manifest.

    Started again after a crash, it goes on from the last checkpoint. Raises UserError, before a worker
    starts, for a base model that cannot be loaded, for more workers than the cluster has room for and for a
    tracker whose package is not installed.
    """
    rows = run.require(run.arm(arm), f"select --arm {arm}")
    model, base = base_model(run, recipe)
    own = read_deepspeed_config(recipe.train.deepspeed_config)
    settings = {**recipe.train.shapes_result(), "base_model": base, **({"deepspeed": own} if own else {})}
    # Each strategy has checkpoints of its own form; other workers or micro-batches can go on from them.
    attempt = settings_hash({**settings, "strategy": recipe.train.strategy, "rows": rows.content})
    manifest, worked = run.make(
        run.model(arm),
        "train",
        settings,
        {run.arm(arm): rows},
        lambda: _train(run, recipe.train, own, arm, model, attempt, session, console),
        check=lambda: _check(recipe.train, session),
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


def _train(
    run: RunDirectory,
    settings: TrainSettings,
    own: dict[str, Any],
    arm: str,
    model: str,
    attempt: str,
    session: RaySession,
    console: Console,
) -> Made:
    folder = run.local_path(run.model(arm))
    train_file = run.local_path(f"{run.arm(arm)}/train.json")
    summary = run.require(run.arm(arm), f"select --arm {arm}").details
    row_form = RowForm.from_json(summary.get("row_form"))
    job = TrainJob(model, str(train_file), str(folder), settings, row_form, own)
    checkpoints = run.local_path(run.checkpoints(arm))
    _drop_other_attempts(checkpoints, attempt)
    with shown_progress(folder, arm, console):
        _fit(job, checkpoints, attempt, _resource(session.connect()) == "GPU")
    if (folder / ERROR_FILE).exists():
        raise UserError(f"training arm {arm}: {(folder / ERROR_FILE).read_text(encoding='utf-8')}")
    shutil.rmtree(checkpoints)
    return _made(run, arm, settings)


def _fit(job: TrainJob, checkpoints: Path, attempt: str, use_gpu: bool) -> None:
    # Imported here: it brings torch, which a run with nothing to train does not need.
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _train_on_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=job.settings.workers, use_gpu=use_gpu),
        run_config=RunConfig(
            # A run of the same name goes on from its last checkpoint.
            name=attempt,
            storage_path=str(checkpoints),
            failure_config=FailureConfig(max_failures=job.settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    _in_thread(trainer.fit)


def _in_thread(work: Callable[[], Any]) -> None:
    """Do it in another thread, and wait.

    In the main thread Ray Train takes Ctrl-C for itself: it goes on for a while, and then ends the whole
    process as if all had gone well. From another one it leaves our own handling alone.
    """
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    outcome.result()


def _train_on_worker(config: dict[str, Any]) -> None:
    """Run in each Ray Train worker."""
    import ray.train

    from alpagasus_ray.train.worker import run_worker

    job: TrainJob = config["job"]

    @contextmanager
    def save_checkpoint(metrics: StepMetrics) -> Iterator[Path]:
        # Each worker writes its shards to a folder of its own; Ray Train merges them in the storage.
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            ray.train.report({"step": metrics.step}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    on_step = _ray_metrics(Path(job.export_folder).name)
    latest = ray.train.get_checkpoint()
    try:
        if latest is None:
            run_worker(job, save_checkpoint, None, on_step)
        else:
            with latest.as_directory() as folder:
                run_worker(job, save_checkpoint, Path(folder), on_step)
    except UserError as error:
        # Raised, it would be taken for a lost worker and tried again; all workers come here together.
        if ray.train.get_context().get_world_rank() == 0:
            (Path(job.export_folder) / ERROR_FILE).write_text(str(error), encoding="utf-8")


def _ray_metrics(arm: str) -> Callable[[StepMetrics], None]:
    """Return what keeps Ray's own metrics (ray_alpagasus_train_loss, ...) at the last step of an arm."""
    from ray.util.metrics import Gauge

    gauges = {
        name: Gauge(f"alpagasus_train_{name}", f"{name} of the last step of training", ("arm",))
        for name in SCALARS
    }

    def show(metrics: StepMetrics) -> None:
        for name, value in scalars(metrics.to_dict()).items():
            gauges[name].set(value, {"arm": arm})

    return show


def _resource(resources: Mapping[str, float]) -> str:
    """Return what each worker takes one of."""
    return "GPU" if resources.get("GPU", 0) > 0 and torch_has_cuda() else "CPU"


def _check(settings: TrainSettings, session: RaySession) -> None:
    check_trackers(settings.trackers)
    resources = session.connect()
    resource = _resource(resources)
    there = int(resources.get(resource, 0))
    if settings.workers > there:
        raise UserError(
            f"training wants {settings.workers} workers and the cluster has {there} {resource}s: "
            f"set --workers {max(there, 1)}, or add nodes"
        )
    if settings.offload != "none" and resource == "CPU":
        raise UserError(
            "train.offload moves memory from GPUs to the hosts, and here are no GPUs: leave it out"
        )


def _drop_other_attempts(checkpoints: Path, attempt: str) -> None:
    """Remove checkpoints of other rows or settings, which training must not go on from."""
    if checkpoints.exists():
        for folder in checkpoints.iterdir():
            if folder.name != attempt:
                shutil.rmtree(folder)
    checkpoints.mkdir(parents=True, exist_ok=True)


def _made(run: RunDirectory, arm: str, settings: TrainSettings) -> Made:
    folder = run.local_path(run.model(arm))
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    last = read_metrics(folder / METRICS_FILE)[-1]
    weights = [name for name in run.list_files(run.model(arm)) if not is_record(name)]
    return Made(
        counts={
            "examples": summary["examples"],
            "validation_examples": summary["validation_examples"],
            "dropped_examples": sum(summary["dropped"].values()),
            "steps": last["num_steps"],
            "target_tokens": summary["target_tokens"],
        },
        failures=summary["dropped"],
        details={
            "train_time_s": last["train_time_s"],
            "final_loss": last["loss"],
            "validation_loss": last["validation_loss"],
            "model": settings.model,
            "workers": summary["world_size"],
            "strategy": settings.strategy,
            "parameters": summary["parameters"],
            "trained_parameters": summary["trained_parameters"],
            "sharded_tensors": f"{summary['sharded_tensors']} of {summary['tensors']}",
            "resumed_from_step": summary["resumed_from_step"],
            "tracker_failures": tracker_failures(folder),
        },
        content=run.content_of_files(run.model(arm), weights),
    )
