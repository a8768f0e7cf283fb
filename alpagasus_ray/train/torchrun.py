"""Training without Ray: `torchrun --nproc-per-node N -m alpagasus_ray.train.torchrun JOB.json CHECKPOINTS`.

JOB.json is a TrainJob (job.py); CHECKPOINTS a folder that all workers see: started again, training goes on
from the last checkpoint there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from alpagasus_ray.console import Console, plain_console
from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage, last_part
from alpagasus_ray.text_files import read_text
from alpagasus_ray.train.attempts import attempt_settings
from alpagasus_ray.train.base_models import fingerprint
from alpagasus_ray.train.checking import check_inputs
from alpagasus_ray.train.deepspeed_config import checked_deepspeed_config, read_deepspeed_config
from alpagasus_ray.train.devices import hide_gpus, wants_gpu
from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.job import METRICS_FILE, TrainJob, backend
from alpagasus_ray.train.job_files import written_here
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.progress import shown_progress
from alpagasus_ray.train.tracking import check_trackers
from alpagasus_ray.train.worker import run_worker

STEP = "step-"
PARTIAL = "partial"
ATTEMPT_FILE = "attempt.json"
"""In the folder of the checkpoints: what they are of."""


def run(job: TrainJob, checkpoints: Path) -> None:
    """Train as one of torchrun's workers, from the last checkpoint where there is one."""
    use_gpu = wants_gpu(job.settings)
    if use_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        hide_gpus()
    dist.init_process_group(backend(use_gpu))
    keep = job.settings.keep_checkpoints
    try:
        with written_here(job, is_first=dist.get_rank() == 0) as job_here, _progress(job_here):
            last = max(checkpoints.glob(f"{STEP}*"), default=None)
            run_worker(job_here, last, partial(_checkpoint, checkpoints, max(1, keep)), use_gpu=use_gpu)
        # Not before the model is written: until then a kill would mean to begin anew.
        if dist.get_rank() == 0:
            _keep(checkpoints, keep)
            home = Storage(job.export_folder).shown("")[:-1]
            _console().say(f"train {last_part(job.export_folder)}: done, the model is in {home}")
    finally:
        dist.destroy_process_group()


def _progress(job: TrainJob) -> AbstractContextManager[None]:
    """Show the steps, by the first worker, while the block lasts."""
    if dist.get_rank():
        return nullcontext()
    folder = Path(job.export_folder)
    (folder / METRICS_FILE).unlink(missing_ok=True)  # an earlier attempt's steps are not this one's
    return shown_progress(folder, folder.name, _console())


def _console() -> Console:
    """Return a console that writes lines: other workers write to the same terminal."""
    console = plain_console()
    console.is_terminal = False
    return console


def _checkpoint(checkpoints: Path, keep: int, metrics: StepMetrics, fill: Callable[[Path], Written]) -> None:
    """Give all workers one folder to fill; it is the last checkpoint when all of them have."""
    folder = checkpoints / PARTIAL
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    dist.barrier()
    fill(folder)()
    dist.barrier()
    if dist.get_rank() == 0:
        folder.rename(checkpoints / f"{STEP}{metrics.step:09d}")
        _keep(checkpoints, keep)  # killed in between, it leaves one more, of which the newest counts
    dist.barrier()


def _keep(checkpoints: Path, count: int) -> None:
    """Remove all but the newest checkpoints; half removed, none has a checkpoint's name."""
    for one in sorted(checkpoints.glob(f"{STEP}*"), reverse=True)[count:]:
        one.rename(checkpoints / PARTIAL)
        shutil.rmtree(checkpoints / PARTIAL)


def with_all_workers(job: TrainJob, world_size: int) -> TrainJob:
    """Return the job with as many workers as torchrun has started, `world_size`.

    Raises UserError where the job says another number, and where its strategy is for one process.
    """
    settings = job.settings
    if settings.strategy == "single" and world_size > 1:
        raise UserError(
            f"strategy single is one process and torchrun has started {world_size}, which would all write to "
            "one place: start one, or set strategy to fsdp or deepspeed"
        )
    if "workers" in settings.model_fields_set and settings.workers != world_size:
        raise UserError(
            f"the job's settings say {settings.workers} workers and torchrun has started {world_size}: leave "
            f"workers out, or start {settings.workers}"
        )
    return replace(job, settings=settings.model_copy(update={"workers": world_size}))


def _with_deepspeed(job: TrainJob) -> TrainJob:
    """Return the job with its DeepSpeed configuration looked at, or read where the settings name one."""
    if job.deepspeed:
        return replace(job, deepspeed=checked_deepspeed_config(job.deepspeed, job.settings, "deepspeed"))
    return replace(job, deepspeed=read_deepspeed_config(job.settings))


def _check_attempt(job: TrainJob, checkpoints: Path, rank: int) -> None:
    """Raise UserError where the checkpoints are of another training."""
    attempt = attempt_settings(job.settings, job.deepspeed) | {
        "model": fingerprint(job.model),
        "rows": hashlib.sha256(read_text(job.train_file).encode()).hexdigest(),
    }
    file, text = checkpoints / ATTEMPT_FILE, json.dumps(attempt, indent=1, sort_keys=True)
    if any(checkpoints.glob(f"{STEP}*")) and file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        now = json.loads(text)
        if changed := sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
            raise UserError(
                f"{checkpoints} holds the checkpoints of a training with another {', '.join(changed)}: set "
                "it back, name another folder, or remove this one"
            )
    elif rank == 0:
        checkpoints.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def main() -> None:
    """Read the job and train; a slip of the user's ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(description="Fine-tune as one of torchrun's workers.")
    parser.add_argument("job", type=Path, help="a JSON file that holds a TrainJob")
    parser.add_argument("checkpoints", type=Path, help="where checkpoints go, and where it goes on from")
    args = parser.parse_args()
    try:
        job = TrainJob.from_json(args.job.read_text(encoding="utf-8"))
        job = _with_deepspeed(with_all_workers(job, int(os.environ["WORLD_SIZE"])))
        check_trackers(job.settings.trackers)
        rank = int(os.environ["RANK"])
        _check_attempt(job, args.checkpoints, rank)
        if (set_aside := check_inputs(job)) and rank == 0:
            print(f"alpagasus: {set_aside}", file=sys.stderr)
        run(job, args.checkpoints)
    except UserError as error:
        print(f"alpagasus: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
