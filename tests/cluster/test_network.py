"""The hosts of the tests leave nothing behind, however a test ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.network import HOSTS_FILES, network, why_no_hosts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
TEST = """
import signal, subprocess, sys, time
from tests.cluster.network import network
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without
with network(2) as made:
    running = subprocess.Popen([*made.inside(1), "sleep", "1000"], start_new_session=True)
    print(made.name, running.pid, flush=True)
    time.sleep(1000)
"""


def what_is_left(name: str) -> list[str]:
    listed = ("ip", "netns", "list"), ("ip", "-o", "link", "show")
    lines = [line for words in listed for line in subprocess.check_output(words, text=True).splitlines()]
    return [line for line in lines if name in line] + [path.name for path in HOSTS_FILES.glob(f"{name}-*")]


def has_ended(pid: int) -> bool:
    """Return whether a process has; its name may stay, where nobody asks how an orphan ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_hosts(how: signal.Signals) -> None:
    repository = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", TEST],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout is not None
        name, pid = test.stdout.readline().split()
        assert what_is_left(name)
        test.send_signal(how)
        test.wait(timeout=30)
    with network(1):  # who was killed could not clean up: the next one does
        assert not what_is_left(name)
    assert has_ended(int(pid))
