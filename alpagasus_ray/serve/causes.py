"""From the traceback of a process far away to the one line that a user can act on."""

from __future__ import annotations

import re

MAX_LENGTH = 300

# "RuntimeError: ...", "ray.exceptions.RayTaskError(ValueError): ...", at the start of a line.
_RAISED = re.compile(
    r"^(?:\x1b\[\d+m)?(?:[\w.]+\.)?(\w*(?:Error|Exception|Died|Killed)\w*)(?:\([\w., ]*\))?: (.+)$"
)


def cause_in_one_line(message: str) -> str:
    r"""Return the last exception in a traceback, or the message's last line when it has none.

    >>> cause_in_one_line("Traceback ...\n  File x\nValueError: no such dtype: float7\n")
    'ValueError: no such dtype: float7'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    raised = [match for match in map(_RAISED.match, lines) if match is not None]
    cause = f"{raised[-1][1]}: {raised[-1][2]}" if raised else (lines[-1] if lines else "no reason given")
    return cause if len(cause) <= MAX_LENGTH else f"{cause[: MAX_LENGTH - 1]}…"
