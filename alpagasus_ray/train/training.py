"""Training on Ray: one arm, on as many workers as the recipe says."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
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
from alpagasus_ray.train.base_models import check_base_model, fingerprint
from alpagasus_ray.train.checking import check_cluster, check_inputs, worker_resource
from alpagasus_ray.train.deepspeed_config import read_deepspeed_config
from alpagasus_ray.train.fitting import out_of_memory_line
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, SUMMARY_FILE, LoneWorkerError, TrainJob
from alpagasus_ray.train.metrics import StepMetrics, last_metrics, read_metrics
from alpagasus_ray.train.model_card import CARD_FILE

POLL_EVERY_S = 0.5
RAY_KILLED = "OutOfMemoryError"
"""In what Ray Train says of workers that Ray's memory monitor has killed, before the kernel would."""


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
        check=lambda: _check(job, session, console),
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


def _check(job: TrainJob, session: RaySession, console: Console) -> None:
    check_cluster(job.settings, session.connect())
    if set_aside := check_inputs(job):
        console.say(f"train: {set_aside}")


def _train(
    run: RunDirectory, job: TrainJob, arm: str, attempt: str, session: RaySession, console: Console
) -> Made:
    folder = Path(job.export_folder)
    checkpoints = run.local_path(run.checkpoints(arm))
    _drop_other_attempts(checkpoints, attempt)
    with _shown_progress(folder / METRICS_FILE, arm, console):
        _fit(job, checkpoints, attempt, worker_resource(session.connect()) == "GPU")
    if (folder / ERROR_FILE).exists():
        raise UserError(f"training arm {arm}: {(folder / ERROR_FILE).read_text(encoding='utf-8')}")
    shutil.rmtree(checkpoints)
    return _made(run, arm, job.settings)


def _fit(job: TrainJob, checkpoints: Path, attempt: str, use_gpu: bool) -> None:
    # Imported here: it brings torch, which a run with nothing to train does not need.
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
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
    try:
        _in_thread(trainer.fit)
    except TrainingFailedError as error:
        if (Path(job.export_folder) / ERROR_FILE).exists():
            return
        if RAY_KILLED not in str(error):
            raise
        last = last_metrics(Path(job.export_folder) / METRICS_FILE)
        when = f"at step {last['step'] + 1 if last else 1}"
        raise UserError(out_of_memory_line(job.settings, "a host", when, on_gpu=use_gpu)) from error


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
    error_file = Path(job.export_folder) / ERROR_FILE
    if error_file.exists():
        return  # Ray Train's next attempt, after one worker's error that another attempt does not mend

    @contextmanager
    def save_checkpoint(metrics: StepMetrics) -> Iterator[Path]:
        # Each worker writes its shards to a folder of its own; Ray Train merges them in the storage.
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            ray.train.report({"step": metrics.step}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    latest = ray.train.get_checkpoint()
    try:
        if latest is None:
            run_worker(job, save_checkpoint, None)
        else:
            with latest.as_directory() as folder:
                run_worker(job, save_checkpoint, Path(folder))
    except LoneWorkerError as error:
        error_file.write_text(str(error), encoding="utf-8")
        if ray.train.get_context().get_world_size() > 1:
            raise  # so that Ray Train stops the others, which wait for this one
    except UserError as error:
        # Raised, it would be taken for a lost worker and tried again; all workers come here together.
        if ray.train.get_context().get_world_rank() == 0:
            error_file.write_text(str(error), encoding="utf-8")


def _drop_other_attempts(checkpoints: Path, attempt: str) -> None:
    """Remove checkpoints of other rows or settings, which training must not go on from."""
    if checkpoints.exists():
        for folder in checkpoints.iterdir():
            if folder.name != attempt:
                shutil.rmtree(folder)
    checkpoints.mkdir(parents=True, exist_ok=True)


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
