"""The same pipeline through `ray job submit`, on a cluster of two nodes with token authentication.

Where there can be hosts with addresses of their own, test_hosts.py shows all of it and more.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.cluster.network import why_no_hosts
from tests.cluster.nodes import RAY, started_nodes
from tests.small_demo import FLAGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is None, reason="the same is shown on three hosts (test_hosts.py)"),
]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address for jobs, and the environment with the cluster's token."""
    with started_nodes(tmp_path, cpus=(1, 1)) as started:
        yield started.dashboard_address, started.environment


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


def test_the_pipeline_runs_as_a_job_on_two_nodes(
    cluster: tuple[str, dict[str, str]], finished_demo: tuple[Path, Any], tmp_path: Path
) -> None:
    address, environment = cluster
    stranger = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
    refused = submit(address, stranger, "python", "-c", "print('entered')")
    assert refused.returncode != 0 and "entered" not in refused.stdout
    assert "token" in (refused.stdout + refused.stderr).lower()

    # Every stage has work to do, but only one of the two models is to be trained, served and asked.
    run_dir = shutil.copytree(finished_demo[0], tmp_path / "runs" / "submitted")
    for folder in ("reviews", "models/filtered", "checkpoints", "answers/filtered", "verdicts", "report"):
        shutil.rmtree(run_dir / folder, ignore_errors=True)
    shutil.rmtree(run_dir.parent / "ledger", ignore_errors=True)
    job = [sys.executable, "jobs/pipeline.py", "--recipe", "demo", "--run-dir", str(run_dir)]
    done = submit(address, environment, *job, *FLAGS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "winning score" in done.stdout, "the job's log shows the table"
    assert (run_dir / "report" / "index.html").exists()
    run = RunDirectory(str(run_dir))
    trained = run.manifest("models/filtered")
    assert trained is not None and trained.details["workers"] == 2, "one worker for each node's one CPU"
    for path in run_dir.rglob("*"):
        assert not path.is_file() or environment["RAY_AUTH_TOKEN"].encode() not in path.read_bytes()
