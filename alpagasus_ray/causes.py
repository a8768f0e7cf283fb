"""From the tracebacks of processes far away to the one line that a user can act on."""

from __future__ import annotations

import re

MAX_LENGTH = 300

_RAISED = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)\w*)(?:\([\w., ]*\))?: (.+)$")
"""The line that ends a traceback: `RuntimeError: ...`, `ray.exceptions.RayTaskError(ValueError): ...`."""
_LOGGED = re.compile(r" ERROR .*?\] ((?:\w+\.)*\w*(?:Error|Exception)\w*: .+)$", re.MULTILINE)
"""The same line as vLLM logs it: `(EngineCore pid=7) ERROR 11-22 07:32:16 [core.py:1374] ...`."""


def cause_in_one_line(message: str) -> str:
    r"""Return the last exception in a traceback, or the message's last line when it has none.

    >>> cause_in_one_line("Traceback ...\n  File x\nRuntimeError: ValueError: no such dtype: float7\n")
    'ValueError: no such dtype: float7'
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if _RAISED.match(line)), lines[-1] if lines else "")
    while (raised := _RAISED.match(cause)) and _RAISED.match(raised[2]):
        cause = raised[2]
    if raised:
        cause = f"{raised[1]}: {raised[2]}"
    return cause if len(cause) <= MAX_LENGTH else f"{cause[: MAX_LENGTH - 1]}…"


def last_logged_cause(log: str) -> str | None:
    """Return the last exception that vLLM's engine logged, None when it logged none."""
    causes = _LOGGED.findall(log)
    return causes[-1] if causes else None
