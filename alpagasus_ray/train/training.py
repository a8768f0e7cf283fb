"""Training on Ray: one arm, on as many workers as the recipe says."""

from __future__ import annotations

import json
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.cluster_room import groups_wait_for_room
from alpagasus_ray.console import Console, duration
from alpagasus_ray.corpus.row_forms import RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import TOYWORLD, Recipe, TrainSettings
from alpagasus_ray.shared_folder import check_shared
from alpagasus_ray.train.attempts import attempt_settings, what_gives_way
from alpagasus_ray.train.base_models import check_base_model, fingerprint
from alpagasus_ray.train.checking import check_cluster, check_inputs, worker_resource
from alpagasus_ray.train.checkpoint_storage import CheckpointStorage, checkpoint_storage
from alpagasus_ray.train.deepspeed_config import read_deepspeed_config
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, SUMMARY_FILE, TrainJob, is_record
from alpagasus_ray.train.job_files import records_here
from alpagasus_ray.train.metrics import read_metrics
from alpagasus_ray.train.progress import shown_progress
from alpagasus_ray.train.ray_workers import fit
from alpagasus_ray.train.recording import tracker_failures
from alpagasus_ray.train.tracking import check_trackers


def train(run: RunDirectory, recipe: Recipe, arm: str, session: RaySession, console: Console) -> Manifest:
    """Commit RUN/models/<arm>/, a Hugging Face folder, and return its manifest.

    Started again after a crash, it goes on from the last checkpoint. Raises UserError, before a worker
    starts, for what checking.py looks for (room on the cluster, tokenizer, rows, prompts) and for a tracker
    whose package is not installed.
    """
    rows = run.require(run.arm(arm), f"select --arm {arm}")
    model, base = base_model(run, recipe)
    own = read_deepspeed_config(recipe.train)
    settings = {**recipe.train.shapes_result(), "base_model": base, **({"deepspeed": own} if own else {})}
    row_form = RowForm.from_json(rows.details.get("row_form"))
    folder, train_file = run.child_uri(run.model(arm)), run.child_uri(f"{run.arm(arm)}/train.json")
    job = TrainJob(model, train_file, folder, recipe.train, row_form, own)
    attempt = settings_hash({**attempt_settings(recipe.train, own), "base_model": base, "rows": rows.content})
    manifest, worked = run.make(
        run.model(arm),
        "train",
        settings,
        {run.arm(arm): rows},
        lambda: _train(run, job, arm, attempt, session, console),
        check=lambda: _check(
            run,
            job,
            checkpoint_storage(run, recipe.train, arm),
            session,
            console,
            what_gives_way(run.manifest(run.model(arm)), settings),
        ),
    )
    if worked:  # not before the model is committed: until then a kill would mean to begin anew
        storage = checkpoint_storage(run, recipe.train, arm)
        storage.drop_others(attempt)
        storage.keep(attempt, recipe.train.keep_checkpoints)
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
        return run.child_uri(f"{run.toyworld}/base-model"), content
    check_base_model(recipe.train.model)
    folder = Path(recipe.train.model).expanduser()
    # Workers have another working directory: they get the whole path. A hub id stays as it is.
    model = str(folder.resolve()) if folder.exists() else recipe.train.model
    return model, fingerprint(model)


def _check(
    run: RunDirectory,
    job: TrainJob,
    storage: CheckpointStorage,
    session: RaySession,
    console: Console,
    replaced: str,
) -> None:
    check_trackers(job.settings.trackers)
    storage.check()
    set_aside = check_inputs(job)
    wanted = job.settings.min_workers or job.settings.workers
    needed = {worker_resource(job.settings, session.connect()): float(wanted)}
    check_cluster(job.settings, session.wait_for(needed, console.say), job.deepspeed)
    check_shared(run, "--run-dir")
    for line in filter(None, (set_aside, replaced)):
        console.say(f"train: {line}")


def _train(
    run: RunDirectory, job: TrainJob, arm: str, attempt: str, session: RaySession, console: Console
) -> Made:
    storage = checkpoint_storage(run, job.settings, arm)
    settings = job.settings
    how = "going on from the last checkpoint" if storage.has_any(attempt) else "from the start"
    console.say(f"train: {arm} {how}: starting {settings.workers} worker(s), {settings.strategy}")
    with (
        records_here(job.export_folder) as folder,
        shown_progress(folder, arm, console, groups_wait_for_room),
    ):
        fit(job, storage, attempt, worker_resource(job.settings, session.connect()) == "GPU")
    with records_here(job.export_folder) as folder:
        if (folder / ERROR_FILE).exists():
            raise UserError(f"training arm {arm}: {(folder / ERROR_FILE).read_text(encoding='utf-8')}")
        return _made(run, folder, arm, job.settings)


def _made(run: RunDirectory, folder: Path, arm: str, settings: TrainSettings) -> Made:
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
