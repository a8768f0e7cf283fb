"""Whose a segment is: a process is known dead only where its PID can be known to be its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alpagasus_ray.llm import ledger_names
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_names import DEAD_AFTER_S, NAME, has_ended, segment_name
from alpagasus_ray.llm.ledger_upkeep import compact

NEVER_A_PID = 2**22 + 1
"""Above the highest that Linux gives (proc_sys_kernel(5), pid_max)."""
linux = pytest.mark.skipif(
    not Path("/proc/self/ns/pid").exists(), reason="only Linux tells of PID namespaces"
)


def changed(name: str, **parts: object) -> str:
    """Return a segment's name with some of its parts replaced."""
    found = NAME.fullmatch(name)
    assert found is not None
    for part, value in parts.items():
        start, end = found.span(part)
        name = name[:start] + str(value) + name[end:]
        found = NAME.fullmatch(name)
        assert found is not None
    return name


def key(number: int) -> str:
    return f"{number:064x}"


def test_no_two_names_are_equal() -> None:
    assert len({segment_name() for _ in range(100)}) == 100


def test_this_process_has_not_ended() -> None:
    assert not has_ended(segment_name(), 0.0)


@linux
def test_this_process_has_not_ended_however_long_it_rests() -> None:
    assert not has_ended(segment_name(), 10 * DEAD_AFTER_S)


NAMED = """
import sys
from alpagasus_ray.llm.ledger_names import segment_name
print(segment_name(), flush=True)
sys.stdin.read()
"""


@linux
def test_a_process_that_is_gone_has_ended_at_once() -> None:
    arguments = [sys.executable, "-c", NAMED]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        assert not has_ended(name, 10 * DEAD_AFTER_S)
        other.stdin.close()
        assert other.stdout.read() == ""
        until_s = time.monotonic() + 30
        while not has_ended(name, 0.0):  # also while nobody has asked how it ended
            assert time.monotonic() < until_s
            time.sleep(0.01)
        assert other.returncode is None
    assert has_ended(name, 0.0)


@linux
def test_another_process_that_got_the_same_number_does_not_count() -> None:
    assert has_ended(changed(segment_name(), start=12345), 0.0)


@pytest.mark.parametrize(
    "parts", [{"namespace": 4026530000}, {"boot": "abc"}, {"host": "elsewhere"}, {"host": "a-1-2"}]
)
@pytest.mark.parametrize("process_id", [NEVER_A_PID, os.getpid()], ids=["nobody", "this process"])
def test_elsewhere_only_the_time_tells(parts: dict[str, object], process_id: int) -> None:
    name = changed(segment_name(), pid=process_id, **parts)
    assert not has_ended(name, DEAD_AFTER_S - 1)
    assert has_ended(name, DEAD_AFTER_S + 1)


@pytest.mark.parametrize("process_id", [NEVER_A_PID, os.getpid()], ids=["nobody", "this process"])
@pytest.mark.parametrize("end", ["", "-000001"])
def test_of_names_that_earlier_versions_gave_only_the_time_tells(process_id: int, end: str) -> None:
    name = f"{socket.gethostname()}-{process_id}-0123456789ab{end}"
    assert not has_ended(name, DEAD_AFTER_S - 1)
    assert has_ended(name, DEAD_AFTER_S + 1)


def test_where_the_system_tells_nothing_the_time_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_names, "PROC", tmp_path)
    name = segment_name()
    assert re.search(r"-0\.0\.\d+\.0-", name)
    assert not has_ended(changed(name, pid=NEVER_A_PID), 0.0)
    assert has_ended(name, DEAD_AFTER_S + 1)


@linux
def test_a_command_with_parentheses_and_spaces_hides_no_start_time(tmp_path: Path) -> None:
    program = tmp_path / "x) S 1 (y"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        other, own = ledger_names._process(process.pid), ledger_names._process(os.getpid())
        process.kill()
    assert other is not None
    assert own is not None
    assert other.start_ticks >= own.start_ticks
    assert not other.is_zombie


@linux
def test_a_live_writer_of_another_container_on_this_host_loses_nothing(tmp_path: Path) -> None:
    """Two containers that share the host's name: the PID of the one means nothing to the other."""
    writer = Ledger(tmp_path)
    writer.record(key(0), Reply("0", "stop", 1, 1))
    (segment,) = tmp_path.glob("*.jsonl")
    other = changed(segment.stem, namespace=4026530000, pid=NEVER_A_PID)
    segment.rename(segment.with_name(f"{other}.jsonl"))
    for number in (1, 2):
        ledger = Ledger(tmp_path)
        ledger.record(key(number), Reply("0", "stop", 1, 1))
        ledger.close()
    assert compact(str(tmp_path)).still_written == 1
    writer.record(key(3), Reply("0", "stop", 1, 1))
    ledger = Ledger(tmp_path)
    assert all(ledger.lookup(key(number)) is not None for number in range(4))
