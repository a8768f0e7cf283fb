"""A build that was killed holds up no training for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alpagasus_ray.train.op_builds import FOLDER, STALE_AFTER_S, remove_stale_locks


def test_a_lock_that_nobody_holds_is_removed_once_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    names = ("killed", "py311_cpu/killed", "held", "new")
    locks = {name: tmp_path / name / "lock" for name in names}
    for name, lock in locks.items():
        lock.parent.mkdir(parents=True)
        lock.touch()
        (lock.parent / "operator.so").touch()
        if name != "new":
            long_ago = lock.stat().st_mtime - STALE_AFTER_S - 1
            os.utime(lock, (long_ago, long_ago))
    with locks["held"].open():
        remove_stale_locks()
    assert [name for name, lock in locks.items() if lock.exists()] == ["held", "new"]
    assert all((lock.parent / "operator.so").exists() for lock in locks.values())


def test_without_any_build_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "nothing"))
    remove_stale_locks()
