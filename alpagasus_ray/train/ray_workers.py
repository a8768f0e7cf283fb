"""Ray Train: workers that are started, lost, replaced and added, and where their checkpoints go."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.checkpoint_storage import CheckpointStorage
from alpagasus_ray.train.fitting import out_of_memory_line
from alpagasus_ray.train.job import ERROR_FILE, METRICS_FILE, LoneWorkerError, TrainJob
from alpagasus_ray.train.metrics import SCALARS, StepMetrics, last_metrics, scalars

RAY_KILLED = "OutOfMemoryError"
"""In what Ray Train says of workers that Ray's memory monitor has killed, before the kernel would."""


def fit(job: TrainJob, storage: CheckpointStorage, attempt: str, use_gpu: bool) -> None:
    """Train to the end, going on from the attempt's last checkpoint where there is one.

    What a worker says that another attempt does not mend stands in ERROR_FILE then. Raises UserError where
    Ray has killed workers because a host ran out of memory.
    """
    # Imported here: it brings torch, which a run with nothing to train does not need.
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = job.settings
    elastic = (settings.min_workers or settings.workers, settings.workers)
    trainer = TorchTrainer(
        _train_on_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
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
        raise UserError(out_of_memory_line(settings, "a host", when, on_gpu=use_gpu)) from error


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
    surroundings = (_save_checkpoint, ray_metrics(Path(job.export_folder).name), _Preemption())
    latest = ray.train.get_checkpoint()
    try:
        if latest is None:
            run_worker(job, None, *surroundings)
        else:
            with latest.as_directory() as folder:
                run_worker(job, Path(folder), *surroundings)
    except LoneWorkerError as error:
        error_file.write_text(str(error), encoding="utf-8")
        if ray.train.get_context().get_world_size() > 1:
            raise  # so that Ray Train stops the others, which wait for this one
    except UserError as error:
        # Raised, it would be taken for a lost worker and tried again; all workers come here together.
        if ray.train.get_context().get_world_rank() == 0:
            error_file.write_text(str(error), encoding="utf-8")


def ray_metrics(arm: str) -> Callable[[StepMetrics], None]:
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


@contextmanager
def _save_checkpoint(metrics: StepMetrics) -> Iterator[Path]:
    """Give this worker a folder for its shards; Ray Train merges all workers' in the storage.

    That goes on while training does. A checkpoint counts when all of it is there: before that, a lost
    worker means the one before.
    """
    import ray.train

    folder = tempfile.mkdtemp(prefix="checkpoint-")
    try:
        yield Path(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    ray.train.report(
        {"step": metrics.step},
        checkpoint=ray.train.Checkpoint.from_directory(folder),
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
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
