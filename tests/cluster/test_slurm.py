"""cluster/slurm.sh run for real, on a Slurm that is two small programs on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"
JOB = """\
import os, sys, time
import ray

ray.init()
nodes = [node for node in ray.nodes() if node["Alive"]]
print("NODES", len(nodes), "GIVEN", sys.argv[2:], flush=True)
while os.path.exists(os.path.join(sys.argv[1], "wait")):
    time.sleep(0.2)
sys.exit(int(os.environ["JOB_ENDS_WITH"]))
"""
# Each step has a folder and an agent's port of its own, as on a host of its own.
SRUN = """\
#!{python}
import os, socket, sys, tempfile
words = sys.argv[1:]
command = words[next(n for n, word in enumerate(words) if not word.startswith("-")):]
with socket.create_server(("127.0.0.1", 0)) as one:
    port = one.getsockname()[1]
own = tempfile.mkdtemp(dir={folder!r})
with open({steps!r}, "a") as file:
    print(" ".join(words), file=file)
command += ["--dashboard-agent-listen-port=%d" % port, "--temp-dir=" + own, "--object-store-memory=80000000"]
if "--head" not in command:
    command += ["--node-ip-address=127.0.0.1"]
os.execvp(command[0], command)
"""
SCONTROL = "#!/bin/sh\necho one\necho two\n"
HOSTNAME = "#!/bin/sh\necho 127.0.0.1\n"


class Slurm:
    """A submission's folder, and programs that answer as Slurm's own do."""

    def __init__(self, folder: Path, short: Path) -> None:
        self.folder, self.home, self.steps = folder, folder / "home", folder / "steps.txt"
        programs = folder / "programs"
        programs.mkdir()
        self.home.mkdir()
        srun = SRUN.format(python=sys.executable, folder=str(short), steps=str(self.steps))
        for name, text in (("srun", srun), ("scontrol", SCONTROL), ("hostname", HOSTNAME)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (folder / "trivial.py").write_text(JOB)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "VENV": str(Path(sys.executable).parents[1]),
            "JOB": "trivial.py",
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NODELIST": "[one-two]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
        }

    def start(self, *flags: str, ends_with: int = 0, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), str(self.folder), *flags],
            cwd="/",
            env={**self.environment, "JOB_ENDS_WITH": str(ends_with), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def left(self, within_s: float = 20) -> list[str]:
        """Return what is left of it, once nothing is or the time is over."""
        until_s = time.monotonic() + within_s
        while (left := self._left()) and time.monotonic() < until_s:
            time.sleep(0.5)
        return left

    def _left(self) -> list[str]:
        """Return the commands of processes that belong to it, and what lies in the home folder."""
        commands = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_SUBMIT_DIR") == str(self.folder):
                    commands.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return [*commands, *(path.name for path in self.home.glob(".alpagasus*"))]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    # A short path: sockets stand in it.
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as short:
        made = Slurm(tmp_path, Path(short))
        yield made
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_SUBMIT_DIR") == str(tmp_path):
                    process.kill()
            except psutil.Error:
                continue


def test_a_job_runs_on_all_nodes_and_its_exit_status_is_handed_on(slurm: Slurm) -> None:
    script = slurm.start("--set", "prices={a-4.1: {input: 2}}", ends_with=2)
    out, _ = script.communicate(timeout=300)
    assert script.returncode == 2, out
    assert "NODES 2 GIVEN ['--set', 'prices={a-4.1: {input: 2}}']" in out
    head, worker = slurm.steps.read_text().splitlines()
    assert "--nodelist=one" in head and "--head" in head
    assert "--exclude=one" in worker and "--nodes=1" in worker
    assert "token" not in slurm.steps.read_text()
    assert slurm.left() == []


def test_a_job_on_one_node_ends_well(slurm: Slurm) -> None:
    script = slurm.start(SLURM_JOB_NUM_NODES="1")
    out, _ = script.communicate(timeout=300)
    assert script.returncode == 0 and "NODES 1" in out, out
    assert len(slurm.steps.read_text().splitlines()) == 1


def test_a_job_that_slurm_ends_leaves_nothing(slurm: Slurm) -> None:
    (slurm.folder / "wait").touch()
    script = slurm.start()
    assert script.stdout is not None
    for line in script.stdout:
        if "NODES 2" in line:
            break
    (secrets,) = slurm.home.glob(".alpagasus-slurm-*")
    assert secrets.stat().st_mode & 0o077 == 0 and (secrets / "auth_token").stat().st_mode & 0o077 == 0
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=120)
    assert script.returncode == 143
    assert slurm.left() == []


def test_a_node_that_does_not_come_is_told(slurm: Slurm) -> None:
    script = slurm.start(SLURM_JOB_NUM_NODES="3", NODES_WITHIN_S="20")
    out, _ = script.communicate(timeout=300)
    assert script.returncode == 1
    assert "2 of 3 nodes came up within 20 s" in out
    assert slurm.left() == []
