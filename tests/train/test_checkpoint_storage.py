"""Where checkpoints go: what is there of other attempts, and what cannot be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.checkpoint_storage import checkpoint_storage
from tests.object_store import object_store


def attempt_in(folder: Path, name: str) -> Path:
    checkpoint = folder / name / "checkpoint_1"
    checkpoint.mkdir(parents=True)
    return checkpoint


def test_a_run_keeps_the_checkpoints_of_this_attempt_and_no_others(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    folder = tmp_path / "run" / run.checkpoints("full")
    this, other = attempt_in(folder, "this"), attempt_in(folder, "other")
    storage = checkpoint_storage(run, TrainSettings(), "full")
    storage.check()
    storage.drop_others("this")
    assert this.exists() and not other.exists()
    storage.keep("this", 0)
    storage.keep("never there", 0)
    assert not this.exists()


def test_a_storage_of_ones_own_keeps_what_other_runs_put_there(tmp_path: Path) -> None:
    settings = TrainSettings(checkpoint_storage=str(tmp_path / "all"))
    other = attempt_in(tmp_path / "all" / "full", "other")
    storage = checkpoint_storage(RunDirectory(str(tmp_path / "run")), settings, "full")
    storage.check()
    storage.drop_others("this")
    storage.keep("this", 0)
    assert storage.root == str(tmp_path / "all" / "full")
    assert other.exists()


def test_an_object_store_takes_them_too(tmp_path: Path) -> None:
    with object_store("checkpoints") as address:
        settings = TrainSettings(checkpoint_storage=address.replace("NAME", "here"))
        storage = checkpoint_storage(RunDirectory(str(tmp_path / "run")), settings, "full")
        storage.check()
        storage.drop_others("this")
        storage.write_bytes("this/checkpoint_1/weights", b"1")
        storage.check()
        storage.drop_others("this")
        assert storage.path("") == "checkpoints/here/full"
        assert storage.exists("this/checkpoint_1/weights")
        storage.keep("this", 0)
        assert not storage.exists("this")


def test_a_storage_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = TrainSettings(checkpoint_storage=str(tmp_path / "file" / "folder"))
    storage = checkpoint_storage(RunDirectory(str(tmp_path / "run")), settings, "full")
    with pytest.raises(UserError, match=r"^train\.checkpoint_storage .* cannot be written to: "):
        storage.check()
        storage.drop_others("this")


def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    settings = TrainSettings(checkpoint_storage="nowhere://bucket")
    with pytest.raises(UserError, match=r"^train\.checkpoint_storage nowhere://bucket cannot be opened"):
        checkpoint_storage(RunDirectory(str(tmp_path / "run")), settings, "full")


def test_the_newest_stay_whatever_a_killed_driver_left(tmp_path: Path) -> None:
    storage = checkpoint_storage(RunDirectory(str(tmp_path / "run")), TrainSettings(), "full")
    for name in ("checkpoint_2026-11-22_19-05-35.394453", "checkpoint_2026-11-22_19-06-22.614370"):
        storage.write_bytes(f"this/{name}/.metadata", b"")
    storage.write_bytes("this/checkpoint_2026-11-22_19-05-37.043588/half", b"")
    storage.write_bytes("this/checkpoint_manager_snapshot.json", b"{}")
    storage.keep("this", 1)
    assert storage.list_files("this") == [
        "checkpoint_2026-11-22_19-06-22.614370/.metadata",
        "checkpoint_manager_snapshot.json",
    ]
