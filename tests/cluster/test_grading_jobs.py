"""Grading on a cluster: two jobs share an account's limits, and a lost node costs no reply."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.cluster.nodes import Cluster, descendants, started_nodes
from tests.loopback import LoopbackServer
from tests.loopback_limits import Limits

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
PER_MINUTE = 1200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that does no work, and two nodes that do."""
    with started_nodes(tmp_path_factory.mktemp("cluster"), cpus=(0, 1, 1)) as started:
        yield started


def start(
    cluster: Cluster, folder: Path, name: str, endpoint: LoopbackServer, *flags: str
) -> subprocess.Popen[str]:
    """Grade 300 rows, other ones for each name."""
    data = folder / f"{name}.json"
    data.write_text(
        json.dumps([{"instruction": f"Name {name} <{i}>.", "output": f"It is {i}."} for i in range(300)])
    )
    command = [sys.executable, "-m", "alpagasus_ray.cli", "grade", "--data", str(data)]
    command += ["--run-dir", str(folder / name), "--model", "judge", "--base-url", endpoint.base_url]
    command += ["--set", "grade.guard.action=off", *flags]
    environment = {**cluster.environment, "RAY_ADDRESS": cluster.gcs_address}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    return out


def test_two_jobs_on_one_account_keep_its_limit_together(cluster: Cluster, tmp_path: Path) -> None:
    times: list[float] = []

    def reply(body: object) -> str:
        times.append(time.monotonic())
        return "4\nFine."

    limits = Limits(requests_per_minute=PER_MINUTE, window_s=1)
    with LoopbackServer(reply=reply, latency_s=0.1, limits=limits) as endpoint:
        flags = ("--requests-per-minute", str(PER_MINUTE), "--set", "grade.account=shared")
        jobs = [start(cluster, tmp_path, name, endpoint, *flags) for name in ("one", "other")]
        for job in jobs:
            finish(job)
        assert endpoint.answered.total() == 600
        assert limits.rate_limited <= 0.01 * endpoint.asked.total()
    for first, later in zip(times, times[200:], strict=False):
        assert 60 * 200 / (later - first) <= 1.1 * PER_MINUTE


def test_a_lost_node_costs_no_more_than_what_was_in_flight(cluster: Cluster, tmp_path: Path) -> None:
    flags = ("--max-concurrency", "16", "--set", "grade.num_actors=2")
    with LoopbackServer(latency_s=0.3) as endpoint:
        job = start(cluster, tmp_path, "lost", endpoint, *flags)
        until_s = time.monotonic() + 200
        while endpoint.answered.total() < 100:
            assert time.monotonic() < until_s and job.poll() is None
            time.sleep(0.05)
        for process in descendants(cluster.nodes[2]):
            process.kill()
        job.communicate(timeout=400)  # whether it got over it or not
        finish(start(cluster, tmp_path, "lost", endpoint, *flags))
        repeated = sum(times - 1 for times in endpoint.answered.values())
        assert repeated <= 16, f"{repeated} replies were paid for twice"
    run = RunDirectory(str(tmp_path / "lost"))
    manifest = run.manifest(run.reviews("accuracy", "judge"))
    assert manifest is not None and manifest.counts["scored"] == 300
