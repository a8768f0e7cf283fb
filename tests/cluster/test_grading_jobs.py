"""Grading on a cluster: two jobs share an account's limits, and a lost node costs no reply."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster, started_nodes
from tests.grading_runs import IN_FLIGHT, Grading, ended, made_rows
from tests.loopback import LoopbackServer
from tests.loopback_limits import Limits

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
PER_MINUTE = 1200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that does no work, and two nodes that do."""
    with started_nodes(tmp_path_factory.mktemp("cluster"), cpus=(0, 1, 1)) as started:
        yield started


def entering(cluster: Cluster) -> dict[str, str]:
    """The environment of a command that is to use this cluster."""
    return {**cluster.environment, "RAY_ADDRESS": cluster.gcs_address}


def test_two_jobs_on_one_account_keep_its_limit_together(cluster: Cluster, tmp_path: Path) -> None:
    times: list[float] = []

    def reply(body: object) -> str:
        times.append(time.monotonic())
        return "4\nFine."

    limits = Limits(requests_per_minute=PER_MINUTE, window_s=1)
    with LoopbackServer(reply=reply, latency_s=0.1, limits=limits) as endpoint:
        flags = ("--requests-per-minute", str(PER_MINUTE), "--set", "grade.account=shared")
        for job in [
            Grading(tmp_path / name, endpoint, made_rows(300, name), entering(cluster)).start(*flags)
            for name in ("one", "other")
        ]:
            out, code = ended(job)
            assert code == 0, out
        assert endpoint.answered.total() == 600
        assert limits.rate_limited <= 0.01 * endpoint.asked.total()
    for first, later in zip(times, times[200:], strict=False):
        assert 60 * 200 / (later - first) <= 1.1 * PER_MINUTE


def test_a_lost_node_costs_no_more_than_what_was_in_flight(
    cluster: Cluster, tmp_path: Path, kills: int
) -> None:
    with LoopbackServer(latency_s=0.3) as endpoint:
        grading = Grading(tmp_path / "lost", endpoint, made_rows(300 * kills), entering(cluster))
        grading.kill_again_and_again("node", cluster, kills, random.Random(1), "--set", "grade.num_actors=2")
        print(f"{grading.repeated()} replies paid for twice at {kills} kills of a node")
        assert grading.repeated() <= kills * IN_FLIGHT
        assert grading.manifest().counts["scored"] == 300 * kills
