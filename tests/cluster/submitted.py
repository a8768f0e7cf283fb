"""Work on hosts, submitted from outside of them: runs and ledger are in an object store that all reach."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.hosts import Hosts, started_hosts
from tests.cluster.network import network
from tests.grading_runs import CANARY, IN_FLIGHT, Grading, ended, made_rows
from tests.loopback import LoopbackServer
from tests.object_store import Refusals, object_store

NUM_ROWS = 600
"""Three groups of rows: both actors have some."""
LATENCY_S = 0.5
LOST_AT_MOST = IN_FLIGHT + int(IN_FLIGHT / LATENCY_S)
"""Of paid replies: those in flight, and what comes within a second, when the ledger is in an object store."""
PATIENCE_S = 240.0
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """A cluster of three hosts, of which the head does no work, and a store."""

    hosts: Hosts
    store: str
    refusals: Refusals
    undisturbed: dict[str, float | None] = field(default_factory=dict)
    """Each row's score in a run that had no trouble, once there was one: replies hang on the row alone."""

    def address(self, name: str) -> str:
        """Return the address of a folder in the store."""
        return self.store.replace("NAME", name)

    def endpoint(self) -> LoopbackServer:
        """Return a judge's endpoint where the hosts reach it, not started yet."""
        return LoopbackServer(host=self.hosts.network.address, latency_s=LATENCY_S)

    def submit(self, stage: str, *flags: str, folder: Path) -> subprocess.Popen[str]:
        """Start `alpagasus submit`, with the files of a folder."""
        command = [sys.executable, "-m", "alpagasus_ray", "submit"]
        return subprocess.Popen(
            [*command, "--address", self.hosts.dashboard_address, stage, *flags],
            cwd=folder,
            env={**self.hosts.environment, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def site(folder: Path, disk_bytes: int | None = None, **variables: str) -> Iterator[Site]:
    """Build one, with variables of Ray's set, and so large a disk on the first worker host."""
    refusals, disks = Refusals(), {} if disk_bytes is None else {1: disk_bytes}
    with network(3) as bridge, object_store("faults", bridge.address, refusals) as store:
        key = os.environ.get("OPENAI_API_KEY")
        os.environ["OPENAI_API_KEY"] = CANARY  # the nodes' environment has it, as an image's would
        try:
            with started_hosts(folder, (0, 1, 1), bridge, disks, **variables) as hosts:
                yield Site(hosts, store, refusals)
        finally:
            os.environ.pop("OPENAI_API_KEY")
            os.environ.update({} if key is None else {"OPENAI_API_KEY": key})


class Submitted(Grading):
    """Grading as a job."""

    def __init__(self, folder: Path, endpoint: LoopbackServer, where: Site) -> None:
        super().__init__(folder, endpoint, made_rows(NUM_ROWS))
        self._site = where

    def address(self, run: str) -> str:
        return self._site.address(f"{self.folder.name}/{run}")

    def start(self, *flags: str, run: str = "run") -> subprocess.Popen[str]:
        asking = [
            "--model",
            "judge",
            "--base-url",
            self.endpoint.base_url,
            "--max-concurrency",
            str(IN_FLIGHT),
        ]
        asking += ["--set", "grade.guard.action=off", "--set", "grade.num_actors=2", *flags]
        what = ["--data", "data.json", "--run-dir", self.address(run)]
        return self._site.submit("grade", *what, *asking, folder=self.folder)

    def started(self, answered: float = 0.25) -> subprocess.Popen[str]:
        """Start it, and return when this share of the rows is answered."""
        process = self.start()
        wait_until(lambda: self.endpoint.answered.total() > NUM_ROWS * answered, process)
        return process

    def busy_host(self) -> int:
        """Return a worker host with a grading actor."""
        return next(number for number in (1, 2) if self._site.hosts.workers("Judge", number))

    def check_complete(self, out: str, lost_at_most: int = LOST_AT_MOST) -> None:
        """Assert that a run had no trouble that a user would see, and has what an undisturbed one has."""
        assert "Traceback" not in out, out
        assert self.manifest().counts["scored"] == NUM_ROWS
        assert self.repeated() <= lost_at_most, f"{self.repeated()} replies were paid for twice"
        print(f"{self.repeated()} replies were paid for twice")
        if not (undisturbed := self._site.undisturbed):
            self.finish("--set", f"ledger={self.address('another-ledger')}", run="undisturbed")
            undisturbed.update(self.scores("undisturbed"))
        assert self.scores() == undisturbed


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return when it is so; the process must not end before."""
    until_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until_s, "it hangs"
        time.sleep(0.1)


def done(process: subprocess.Popen[str]) -> str:
    """Return what a job that ended well has said; say how long it took from now on."""
    started_s = time.monotonic()
    out, code = ended(process)
    print(f"it went on for {time.monotonic() - started_s:.0f} s\n{out}")
    assert code == 0, out
    return out
