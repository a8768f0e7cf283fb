"""Work that waits for CPUs which others hold says so."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from alpagasus_ray.cluster_room import groups_wait_for_room, waits_for_room
from tests.cluster.nodes import Cluster, entered, started_nodes
from tests.grading_runs import Grading, made_rows
from tests.loopback import LoopbackServer

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
HOLD = """
import ray, time
ray.init()
@ray.remote(num_cpus=2)
class Holder:
    def there(self): return True
holder = Holder.remote()
ray.get(holder.there.remote())
print("held", flush=True)
time.sleep(600)
"""


def test_cpus_that_another_job_holds_are_said_and_waited_for(tmp_path: Path) -> None:
    with started_nodes(tmp_path, cpus=(2,)) as cluster, LoopbackServer() as endpoint:
        command, surroundings = [sys.executable, "-c", HOLD], cluster.of_commands
        with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            check_what_is_told_of(cluster)
            grading = Grading(tmp_path / "grading", endpoint, made_rows(20), cluster.of_commands)
            job = grading.start()
            assert job.stdout is not None
            lines = iter(job.stdout.readline, "")
            assert any("waiting for room: 2 of 2 CPU are in use" in line for line in lines)
            holder.kill()
        said = job.communicate(timeout=120)[0]
        assert job.returncode == 0, said
        assert grading.manifest().counts["scored"] == 20


def check_what_is_told_of(cluster: Cluster) -> None:
    import ray
    from ray.util import placement_group

    with entered(cluster):
        ray.init(log_to_driver=False)
        try:
            assert waits_for_room("CPU", 0.25) == "waiting for room: 2 of 2 CPU are in use"
            assert waits_for_room("CPU", 0.0) == ""
            assert groups_wait_for_room() == ""
            placement_group([{"CPU": 1}] * 2)
            until_s = time.monotonic() + 10
            while not (told := groups_wait_for_room()) and time.monotonic() < until_s:
                time.sleep(0.1)
            assert told == "waiting for room: 2 of 2 CPU are in use"
        finally:
            ray.shutdown()
