"""Folders that users name for results: an artifact is cleared to be made anew, and theirs is not ours."""

from __future__ import annotations

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError


def named_folder(out: str) -> tuple[RunDirectory, str]:
    """Return the directory above a named folder, and its name; raises UserError for what is no such name."""
    parent, _, name = out.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise UserError(f"--out {out}: name a folder of its own")
    return RunDirectory(parent or "."), name


def refuse_others_files(run: RunDirectory, folder: str, stage: str) -> None:
    """Raise UserError where a folder holds anything but an artifact of this stage, which may be made anew."""
    there = sorted(run.list_files(folder))
    manifest = run.manifest(folder)
    if there and (manifest is None or manifest.stage != stage):
        raise UserError(
            f"{run.shown(folder)} holds other files ({there[0]}): name a folder for these results alone"
        )
