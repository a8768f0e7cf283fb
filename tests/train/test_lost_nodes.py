"""Training on a cluster whose nodes are taken away, with and without notice, and given back."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.train.metrics import read_metrics
from tests.cluster.nodes import Cluster, started_nodes
from tests.train.checkpoints import a_checkpoint_counts

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
STEPS_PER_EPOCH = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that does no work, and two nodes that do."""
    with started_nodes(tmp_path_factory.mktemp("cluster"), cpus=(0, 1, 1)) as started:
        yield started


class Training:
    """A run's `train` on a cluster, and what it has written down so far."""

    def __init__(self, run: RunDirectory, cluster: Cluster, num_steps: int, *settings: str) -> None:
        command = [sys.executable, "-m", "alpagasus_ray.cli", "train", "--arm", "full", "--run-dir", run.uri]
        for setting in (f"epochs={num_steps // STEPS_PER_EPOCH}", "max_failures=5", *settings):
            command += ["--set", f"train.{setting}"]
        environment = {**cluster.environment, "RAY_ADDRESS": cluster.gcs_address}
        self._job = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self._run = run

    def lines(self) -> list[dict[str, Any]]:
        return read_metrics(Path(self._run.path("models/full/metrics.jsonl")))

    def checkpoints(self) -> list[Path]:
        return sorted(Path(self._run.path("checkpoints/full")).glob("*/checkpoint_*/.metadata"))

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + 240
        while not is_so():
            assert self._job.poll() is None, f"ended before {what}: {self._job.communicate()[1]}"
            assert time.monotonic() < until_s, f"still waiting for {what}"
            time.sleep(0.05)

    def stop(self) -> None:
        self._job.send_signal(signal.SIGINT)
        self._job.communicate(timeout=60)

    def finish(self) -> None:
        out = self._job.communicate(timeout=300)[1]
        assert self._job.returncode == 0, out


def test_a_training_goes_on_with_fewer_workers_and_with_more_when_they_are_back(
    cluster: Cluster, selected_run: RunDirectory
) -> None:
    settings = ("checkpoint_every_steps=20", "min_workers=1", "resize_every_s=2")
    training = Training(selected_run, cluster, 240, *settings)

    def steps_of(num_workers: int) -> int:
        return sum(line["workers"] == num_workers for line in training.lines())

    training.wait_until(lambda: a_checkpoint_counts(selected_run, "full"), "a checkpoint of two workers")
    cluster.lose(2)
    training.wait_until(lambda: steps_of(1) > 30, "30 steps of one worker")
    cluster.give_back(2)
    training.finish()
    assert [line["step"] for line in training.lines()] == list(range(1, 241))
    workers = [number for number, _ in itertools.groupby(line["workers"] for line in training.lines())]
    assert workers == [2, 1, 2]


def test_a_notice_that_a_node_will_be_taken_away_leads_to_a_checkpoint(
    cluster: Cluster, selected_run: RunDirectory
) -> None:
    node_id = cluster.id_of(2)
    training = Training(selected_run, cluster, 4000, "checkpoint_every_steps=4000")
    training.wait_until(lambda: len(training.lines()) > 5, "the first steps")
    assert not training.checkpoints()
    cluster.announce_the_loss(node_id, within_s=60)
    training.wait_until(lambda: bool(training.checkpoints()), "a checkpoint out of turn")
    assert len(training.lines()) < 4000, "it was no checkpoint out of turn"
    training.stop()
