"""What a killed build of one of DeepSpeed's operators leaves behind. Pure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = "TORCH_EXTENSIONS_DIR"
STALE_AFTER_S = 300.0
"""A build takes one or two minutes; on a shared home it may be another host's, which is not seen."""


def remove_stale_locks() -> None:
    """Remove the locks of builds that were killed: torch would wait for them without a word, for ever.

    A build's process holds its lock open; one that nobody here does, and that is old, is nobody's.
    """
    root = Path(os.environ.get(FOLDER) or "~/.cache/torch_extensions").expanduser()
    for lock in [*root.glob("*/lock"), *root.glob("*/*/lock")]:
        try:
            is_old = time.time() - lock.stat().st_mtime > STALE_AFTER_S
            if is_old and lock.resolve() not in set(_open_files()):
                lock.unlink()
        except OSError:  # its build has ended at this moment, or it is not ours to remove
            continue


def _open_files() -> Iterator[Path]:
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            yield descriptor.readlink()
        except OSError:  # another user's, or gone
            continue
