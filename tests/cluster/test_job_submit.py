"""The same pipeline through `ray job submit`, on a cluster of two nodes with token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.test_pipeline import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).parent / "ray")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address for jobs, and the environment with the cluster's token."""
    gcs, dashboard, client, *agents = free_ports(5)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    head = [RAY, "start", "--head", "--block", f"--port={gcs}", "--num-cpus=1", "--dashboard-host=127.0.0.1"]
    head += [
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        "--node-ip-address=127.0.0.1",
    ]
    worker = [RAY, "start", "--block", f"--address=127.0.0.1:{gcs}", "--num-cpus=1"]
    nodes = []
    with (tmp_path / "nodes.log").open("w") as log:
        for command, agent in zip((head, worker), agents, strict=True):
            # The agent's usual port may be another Ray's on this machine; then no job is taken.
            command.append(f"--dashboard-agent-listen-port={agent}")
            nodes.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
            wait_for_node(gcs, len(nodes), environment)
        try:
            yield f"http://127.0.0.1:{dashboard}", environment
        finally:
            for node in reversed(nodes):
                os.killpg(node.pid, signal.SIGTERM)
            for node in nodes:
                try:
                    node.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(node.pid, signal.SIGKILL)


def wait_for_node(gcs: int, count: int, environment: dict[str, str]) -> None:
    script = (
        "import ray, time\n"
        f"ray.init('127.0.0.1:{gcs}', log_to_driver=False)\n"
        f"while len([n for n in ray.nodes() if n['Alive']]) < {count}: time.sleep(0.5)\n"
    )
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, timeout=120, check=False
        )
        if done.returncode == 0:
            return
    raise RuntimeError(f"node {count} did not come up: {done.stderr.decode()[-2000:]}")


def submit(address: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", address, "--working-dir", str(REPOSITORY), "--", *words]
    for _ in range(30):
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=590, check=False
        )
        # A node that has just come up takes jobs some seconds later.
        if "No available agent" not in done.stderr:
            break
        time.sleep(2)
    return done


def test_the_pipeline_runs_as_a_job_on_two_nodes(cluster: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = cluster
    stranger = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
    refused = submit(address, stranger, "python", "-c", "print('entered')")
    assert refused.returncode != 0 and "entered" not in refused.stdout
    assert "token" in (refused.stdout + refused.stderr).lower()

    run_dir = tmp_path / "runs" / "submitted"
    overrides = [word for override in SMALL for word in ("--set", override)]
    job = [sys.executable, "jobs/pipeline.py", "--recipe", "demo", "--run-dir", str(run_dir)]
    done = submit(address, environment, *job, *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "winning score" in done.stdout, "the job's log shows the table"
    assert (run_dir / "report" / "index.html").exists()
    run = RunDirectory(str(run_dir))
    trained = run.manifest("models/full")
    assert trained is not None and trained.details["workers"] == 2, "one worker for each node's one CPU"
    for path in run_dir.rglob("*"):
        assert not path.is_file() or environment["RAY_AUTH_TOKEN"].encode() not in path.read_bytes()
