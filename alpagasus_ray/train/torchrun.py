"""Training without Ray: `torchrun --nproc-per-node N -m alpagasus_ray.train.torchrun JOB.json CHECKPOINTS`.

JOB.json is a TrainJob (job.py); CHECKPOINTS a folder that all workers see: started again, training goes on
from the last checkpoint there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.checking import check_inputs
from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.tracking import check_trackers
from alpagasus_ray.train.worker import run_worker

LAST = "last"
PARTIAL = "partial"


def run(job: TrainJob, checkpoints: Path) -> None:
    """Train as one of torchrun's workers, from the last checkpoint where there is one."""
    is_cuda = torch.cuda.is_available()
    if is_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if is_cuda else "gloo")
    try:
        last = checkpoints / LAST
        run_worker(job, last if last.exists() else None, partial(_checkpoint, checkpoints))
    finally:
        dist.destroy_process_group()


def _checkpoint(checkpoints: Path, _: StepMetrics, fill: Callable[[Path], Written]) -> None:
    """Give all workers one folder to fill; it is the last checkpoint when all of them have."""
    folder = checkpoints / PARTIAL
    if dist.get_rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    dist.barrier()
    fill(folder)()
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(checkpoints / LAST, ignore_errors=True)
        folder.rename(checkpoints / LAST)
    dist.barrier()


def main() -> None:
    """Read the job and train; a slip of the user's ends in one line and exit status 2."""
    parser = argparse.ArgumentParser(description="Fine-tune as one of torchrun's workers.")
    parser.add_argument("job", type=Path, help="a JSON file that holds a TrainJob")
    parser.add_argument("checkpoints", type=Path, help="where checkpoints go, and where it goes on from")
    args = parser.parse_args()
    try:
        job = TrainJob.from_json(args.job.read_text(encoding="utf-8"))
        check_trackers(job.settings.trackers)
        if (set_aside := check_inputs(job)) and os.environ["RANK"] == "0":
            print(f"alpagasus: {set_aside}", file=sys.stderr)
        run(job, args.checkpoints)
    except UserError as error:
        print(f"alpagasus: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
