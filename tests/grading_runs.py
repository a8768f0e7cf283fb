"""Grading as a user starts it, again and again, whatever happens to it meanwhile."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from alpagasus_ray.artifacts import RunDirectory
from tests.cluster.nodes import Cluster
from tests.loopback import LoopbackServer

CANARY = "sk-canary-4f7d1c0b"
IN_FLIGHT = 16
PATIENCE_S = 240


def made_rows(count: int, name: str = "number") -> list[dict[str, str]]:
    """Return rows, other ones for each name."""
    return [
        {"instruction": f"Name {name} <{i}>.", "input": "", "output": f"It is {i}."} for i in range(count)
    ]


class Grading:
    """One data set, its runs, and the endpoint that is asked."""

    def __init__(
        self,
        folder: Path,
        endpoint: LoopbackServer,
        data: Sequence[dict[str, str]],
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.environment = environment
        folder.mkdir(exist_ok=True)
        self.write(data)

    def write(self, data: Sequence[dict[str, str]]) -> None:
        """Make this the data."""
        self.num_rows = len(data)
        (self.folder / "data.json").write_text(json.dumps(data))

    def address(self, run: str) -> str:
        """Return where a run's directory is."""
        return str(self.folder / run)

    def start(self, *flags: str, run: str = "run") -> subprocess.Popen[str]:
        """Start the command."""
        command = [sys.executable, "-m", "alpagasus_ray.cli", "grade"]
        command += ["--data", str(self.folder / "data.json"), "--run-dir", self.address(run)]
        command += ["--model", "judge", "--base-url", self.endpoint.base_url]
        command += ["--max-concurrency", str(IN_FLIGHT), "--set", "grade.guard.action=off", *flags]
        environment = {**(self.environment or os.environ), "OPENAI_API_KEY": CANARY}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def finish(self, *flags: str, run: str = "run") -> str:
        """Run the command to its good end; return what it said."""
        out, code = ended(self.start(*flags, run=run))
        assert code == 0, out
        return out

    def scores(self, run: str = "run") -> dict[str, float | None]:
        """Return each row's score."""
        directory = RunDirectory(self.address(run))
        table = directory.read_tables(directory.reviews("accuracy", "judge"))
        return {row["triplet_id"]: row["score"] for row in table.to_pylist()}

    def manifest(self, run: str = "run") -> Any:
        """Return the reviews' manifest; None where they are not done."""
        directory = RunDirectory(self.address(run))
        return directory.manifest(directory.reviews("accuracy", "judge"))

    def repeated(self) -> int:
        """Return how many replies were paid for more than once."""
        return sum(times - 1 for times in self.endpoint.answered.values())

    def kill_again_and_again(
        self, victim: str, cluster: Cluster, kills: int, draw: random.Random, *flags: str
    ) -> None:
        """Grade while the driver, the actors or a node are killed at random moments, and go on after each."""
        process = self.start(*flags)
        for share in sorted(draw.uniform(0.02, 0.95) for _ in range(kills)):
            process = self._wait_for(self.num_rows * share, process, victim, cluster, flags)
            if victim == "driver":
                process.kill()
                process.wait()
                wait_until_still(self.endpoint)
            elif victim == "actor":
                for actor in judges_on(cluster):
                    actor.kill()
            else:
                cluster.replace(
                    next(number for number in range(len(cluster.nodes)) if judges_on(cluster, number))
                )
        ended(process)  # Ray may have put other actors in the places of the killed ones, or not
        self.finish(*flags)

    def _wait_for(
        self,
        answered: float,
        process: subprocess.Popen[str],
        victim: str,
        cluster: Cluster,
        flags: Sequence[str],
    ) -> subprocess.Popen[str]:
        """Return the process (a new one where it ended) when rows are answered and there is a victim."""
        until_s = time.monotonic() + PATIENCE_S
        while self.endpoint.answered.total() < answered or not (victim == "driver" or judges_on(cluster)):
            assert time.monotonic() < until_s, "it hangs"
            assert not self.manifest(), "it was done before it could be killed"
            if process.poll() is not None:
                process = self.start(*flags)
            time.sleep(0.02)
        return process


def ended(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Return what a process said, and its exit status."""
    out, _ = process.communicate(timeout=400)
    return out, process.returncode


def wait_until_still(endpoint: LoopbackServer) -> None:
    """Return when what was under way is answered."""
    before = -1
    while endpoint.answered.total() != before:
        before = endpoint.answered.total()
        time.sleep(3 * endpoint.latency_s + 0.5)


def judges_on(cluster: Cluster, *numbers: int) -> list[psutil.Process]:
    """Return the grading actors of a cluster, or of some of its nodes."""
    return cluster.workers("Judge", *numbers)
