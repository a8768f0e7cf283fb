"""Ray Train: workers that are started, lost, replaced and added, and where their checkpoints go."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage, last_part
from alpagasus_ray.train.checkpoint_storage import CheckpointStorage
from alpagasus_ray.train.devices import NO_GPUS
from alpagasus_ray.train.fitting import out_of_memory_line
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, LoneWorkerError, TrainJob, backend
from alpagasus_ray.train.job_files import records_here, written_here
from alpagasus_ray.train.metering import StepMeter
from alpagasus_ray.train.metrics import StepMetrics, last_metrics
from alpagasus_ray.train.ray_tokenizing import (
    DATASET,
    WORTH_IT_ROWS,
    every_worker_gets_all,
    in_tokens,
    streamed,
)
from alpagasus_ray.train.tokenizing import read_rows

if TYPE_CHECKING:
    from ray.train import Checkpoint

    from alpagasus_ray.train.engines.base import Written

RAY_KILLED = "OutOfMemoryError"
"""In what Ray Train says of workers that Ray's memory monitor has killed, before the kernel would."""

FEWER_AFTER_S = "20"
"""Elastic: Ray Train hears of a lost node up to 20 s late, and until then wants the room that was there. Its
own patience with that is a minute."""

LOST = ("WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError")
"""Ray Train's names for workers whose process or node is gone."""


def fit(
    job: TrainJob,
    storage: CheckpointStorage,
    attempt: str,
    use_gpu: bool,
    tokenise_from_rows: int = WORTH_IT_ROWS,
) -> None:
    """Train to the end, going on from the attempt's last checkpoint where there is one.

    An arm of `tokenise_from_rows` rows or more is put into tokens by Ray Data before the workers start.

    What a worker says that another attempt does not mend stands in ERROR_FILE then. Raises UserError where
    workers are lost more often than the recipe forgives, or Ray has killed them because a host ran out of
    memory.
    """
    # Imported here: it brings torch, which a run with nothing to train does not need.
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = job.settings
    rows = read_rows(job)
    if settings.min_workers is not None:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", FEWER_AFTER_S)
    datasets = {DATASET: in_tokens(job, rows)} if len(rows) >= tokenise_from_rows else {}
    elastic = (settings.min_workers or settings.workers, settings.workers)
    trainer = TorchTrainer(
        _train_on_worker,
        train_loop_config={"job": job, "is_streamed": bool(datasets), "use_gpu": use_gpu},
        datasets=datasets,
        dataset_config=every_worker_gets_all(),
        torch_config=TorchConfig(backend=backend(use_gpu)),
        scaling_config=ScalingConfig(
            num_workers=settings.workers if settings.min_workers is None else elastic,
            use_gpu=use_gpu,
            elastic_resize_monitor_interval_s=settings.resize_every_s,
        ),
        run_config=RunConfig(
            # A run of the same name goes on from its last checkpoint.
            name=attempt,
            storage_path=storage.root,
            storage_filesystem=None if storage.is_local else storage.filesystem,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=max(1, settings.keep_checkpoints)),
            worker_runtime_env=None if use_gpu else {"env_vars": dict(NO_GPUS)},
        ),
    )
    try:
        _in_thread(trainer.fit)
    except TrainingFailedError as error:
        if Storage(job.export_folder).exists(ERROR_FILE):
            return
        if (line := _what_was_lost(error, job, use_gpu)) is None:
            raise
        raise UserError(line) from error


def _what_was_lost(error: Exception, job: TrainJob, use_gpu: bool) -> str | None:
    """Return one line where workers have ended that did nothing wrong; None: it is a defect."""
    with records_here(job.export_folder) as folder:
        last = last_metrics(folder / METRICS_FILE)
    when = f"at step {last['step'] + 1 if last else 1}"
    if RAY_KILLED in str(error):
        return out_of_memory_line(job.settings, "a host", when, on_gpu=use_gpu)
    failures = getattr(error, "worker_failures", {}).values()
    if not any(type(one).__name__ in LOST for one in failures):
        return None
    return (
        f"a worker was lost {when}, which train.max_failures ({job.settings.max_failures}) forgives no more: "
        "the same command goes on from the last checkpoint"
    )


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
    home = Storage(job.export_folder)
    if home.exists(ERROR_FILE):
        return  # Ray Train's next attempt, after one worker's error that another attempt does not mend
    tables = streamed() if config["is_streamed"] else None
    surroundings = (_save_checkpoint, StepMeter(last_part(job.export_folder)).show, _Preemption(), tables)
    latest = ray.train.get_checkpoint()
    is_first = ray.train.get_context().get_world_rank() == 0
    try:
        with (
            written_here(job, is_first=is_first) as job_here,
            latest.as_directory() if latest is not None else nullcontext() as folder,
        ):
            last = Path(folder) if folder else None
            run_worker(job_here, last, *surroundings, use_gpu=config["use_gpu"])
    except LoneWorkerError as error:
        home.write_text(ERROR_FILE, str(error))
        if ray.train.get_context().get_world_size() > 1:
            raise  # so that Ray Train stops the others, which wait for this one
    except UserError as error:
        # Raised, it would be taken for a lost worker and tried again; all workers come here together.
        if is_first:
            home.write_text(ERROR_FILE, str(error))


def _save_checkpoint(metrics: StepMetrics, fill: Callable[[Path], Written]) -> None:
    """Give this worker a folder for its shards; Ray Train merges all workers' in the storage.

    Writing and uploading go on while training does. A checkpoint counts when all of it is there: before that,
    a lost worker means the one before.
    """
    import ray.train

    folder = tempfile.mkdtemp(prefix="checkpoint-")
    try:
        written = fill(Path(folder))
    except BaseException:
        shutil.rmtree(folder)
        raise
    storage = ray.train.get_context().get_storage()

    def upload(local: Checkpoint, name: str) -> Checkpoint:
        written()
        return storage.persist_current_checkpoint(local, name)

    ray.train.report(
        {"step": metrics.step},
        checkpoint=ray.train.Checkpoint.from_directory(folder),
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        checkpoint_upload_fn=upload,
        delete_local_checkpoint_after_upload=True,
    )


class _Preemption:
    """Tells once of each node that the cloud will take away. To be asked by all workers at each step."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def __call__(self) -> bool:
        import ray.train

        told = ray.train.get_preemption_info()
        nodes = set(told.preempted_node_ids) - self._known if told is not None else set()
        self._known |= nodes
        return bool(nodes)
