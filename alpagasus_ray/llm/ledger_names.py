"""The names of the ledger's segments: who writes one, and whether that process has ended.

A name is `HOST-BOOT.NAMESPACE.PID.START-RANDOM`. Containers may share a host's name (docker's --network host,
two of one pod) and have PIDs of their own: a PID means something only within one boot of one kernel and one
PID namespace, and once a process has ended another may get it. Earlier versions wrote `HOST-PID-RANDOM`.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

DEAD_AFTER_S = 3600.0
"""A segment that nobody has closed is left alone for so long, unless its writer is known to have ended;
writers themselves start a new one after a sixth of it (ledger_writers.MAX_IDLE_S)."""
NAME = re.compile(
    r"(?P<host>.+)-(?P<boot>[0-9a-f]+)\.(?P<namespace>\d+)\.(?P<pid>\d+)\.(?P<start>\d+)-[0-9a-f]+"
)
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Space:
    """Where a PID means one process; `boot` and `namespace` are 0 where the system does not tell."""

    host: str
    boot: str
    namespace: int

    @property
    def is_known(self) -> bool:
        return self.boot != "0" and self.namespace != 0


@dataclass(frozen=True, slots=True)
class _Process:
    """What tells a process from another that had its PID."""

    start_ticks: int
    """When it started, in clock ticks since boot."""
    is_zombie: bool
    """It has ended, and nobody has asked how."""


def segment_name() -> str:
    """Return a name that no other writer has."""
    space, process_id = _own_space(), os.getpid()
    own = _process(process_id)
    who = f"{space.boot}.{space.namespace}.{process_id}.{0 if own is None else own.start_ticks}"
    return f"{space.host}-{who}-{uuid.uuid4().hex[:12]}"


def has_ended(name: str, idle_s: float) -> bool:
    """Return whether the writer of a segment, last written to so long ago, will not write to it again.

    Its process is looked for where the name tells that it ran beside this one; else the time must do.
    """
    found = NAME.fullmatch(name)
    if found is not None:
        space = _Space(found["host"], found["boot"], int(found["namespace"]))
        start_ticks = int(found["start"])
        if space.is_known and space == _own_space() and start_ticks:
            is_alive = _is_alive(int(found["pid"]), start_ticks)
            if is_alive is not None:
                return not is_alive
    return idle_s > DEAD_AFTER_S


def _own_space() -> _Space:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12] or "0"
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        boot, namespace = "0", 0
    return _Space(socket.gethostname(), boot, namespace)


def _is_alive(process_id: int, start_ticks: int) -> bool | None:
    """Return whether the process that started at this time still runs; None where that cannot be seen."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's: it is there
    seen = _process(process_id)
    return None if seen is None else seen.start_ticks == start_ticks and not seen.is_zombie


def _process(process_id: int) -> _Process | None:
    """Return what /proc tells of a process (proc_pid_stat(5), fields 3 and 22).

    None where it tells nothing, also where it shows the PIDs of another namespace.
    """
    try:
        if (PROC / "self").readlink().name != str(os.getpid()):
            return None
        # The second field, the command in parentheses, may hold spaces and parentheses.
        after_command = (PROC / str(process_id) / "stat").read_text(errors="replace").rpartition(")")[2]
        values = after_command.split()
        return _Process(int(values[19]), is_zombie=values[0] in "ZX")
    except (OSError, IndexError, ValueError):
        return None
