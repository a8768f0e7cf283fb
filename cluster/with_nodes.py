"""Run a command while Ray's autoscaler keeps so many CPUs and GPUs, and give them back at the end.

    python cluster/with_nodes.py --cpus 8 --gpus 4 -- python jobs/pipeline.py --recipe mine.yaml ...

Stages take what the cluster has when they start; one whose nodes come when they are asked for has no GPUs
then, and training would run on its CPUs. This asks, waits until they are there, and hands on the command's
exit status. Without numbers (`-- true`) it gives back what a killed one had asked for.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import ray
from ray.autoscaler.sdk import request_resources

TELL_EVERY_S = 60.0
LOOK_EVERY_S = 2.0


def keep(cpus: int, gpus: int) -> None:
    """Have the autoscaler keep nodes with so many CPUs and GPUs; this overrides what was asked before."""
    bundles = [{"GPU": 1}] * gpus + [{"CPU": 1}] * cpus
    request_resources(bundles=bundles)


def wait_for(cpus: int, gpus: int) -> None:
    """Return when the cluster has so many CPUs and GPUs, telling once a minute what is there."""
    told_at_s = 0.0
    while True:
        there = ray.cluster_resources()
        has_cpus, has_gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        if has_cpus >= cpus and has_gpus >= gpus:
            return
        if time.monotonic() - told_at_s >= TELL_EVERY_S:
            told_at_s = time.monotonic()
            print(f"nodes: {has_cpus} of {cpus} CPUs, {has_gpus} of {gpus} GPUs: waiting", flush=True)
        time.sleep(LOOK_EVERY_S)


def main(arguments: Sequence[str]) -> int:
    """Return the exit status of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpus", type=int, default=0)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("command", nargs="+", help="after --")
    asked = parser.parse_args(arguments)
    ray.init(address="auto", log_to_driver=False)
    # `ray job stop` ends a job so: nodes are given back then too. After Ray has set a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        keep(asked.cpus, asked.gpus)
        wait_for(asked.cpus, asked.gpus)
        return subprocess.run(asked.command, check=False).returncode
    finally:
        keep(0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
