"""cluster/with_nodes.py on a real cluster: it waits, hands on the exit status, and gives back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster, started_nodes

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
SCRIPT = Path(__file__).parents[2] / "cluster" / "with_nodes.py"
ASKED = """
import ray
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
state = get_cluster_resource_state(GcsClient(address="{address}"))
asked = [one for constraint in state.cluster_resource_constraints for one in constraint.resource_requests]
wanted = lambda kind: sum(one.count * one.request.resources_bundle.get(kind, 0) for one in asked)
print("asked for", int(wanted("CPU")), "CPUs and", int(wanted("GPU")), "GPUs")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with started_nodes(
        tmp_path_factory.mktemp("nodes"), cpus=(1, 1), RAY_enable_autoscaler_v2="1"
    ) as started:
        yield started


def start(cluster: Cluster, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        env=cluster.of_commands,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(cluster: Cluster) -> str:
    """Return what the autoscaler is to keep."""
    script = ASKED.format(address=cluster.gcs_address)
    return subprocess.check_output([sys.executable, "-c", script], env=cluster.environment, text=True).strip()


def test_it_keeps_nodes_for_as_long_as_the_command_runs(cluster: Cluster) -> None:
    done = start(cluster, "--cpus", "2", "--", "python", "-c", ASKED.format(address=cluster.gcs_address))
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 0 and "asked for 2 CPUs and 0 GPUs" in out, out
    assert asked(cluster) == "asked for 0 CPUs and 0 GPUs"


def test_it_hands_on_the_exit_status(cluster: Cluster) -> None:
    done = start(cluster, "--", "sh", "-c", "exit 2")
    done.communicate(timeout=120)
    assert done.returncode == 2


def test_it_waits_and_a_stopped_one_gives_back(cluster: Cluster) -> None:
    waiting = start(cluster, "--gpus", "4", "--", "echo", "started")
    assert waiting.stdout is not None
    lines = iter(waiting.stdout)
    while "waiting" not in (line := next(lines)):
        pass
    assert "2 of 0 CPUs, 0 of 4 GPUs" in line
    assert asked(cluster) == "asked for 0 CPUs and 4 GPUs"
    waiting.send_signal(signal.SIGTERM)
    assert "started" not in "".join(lines)
    assert waiting.wait(60) == 128 + signal.SIGTERM
    assert asked(cluster) == "asked for 0 CPUs and 0 GPUs"
