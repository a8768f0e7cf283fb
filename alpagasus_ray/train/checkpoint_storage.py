"""Where a training's checkpoints are kept: the run directory, or any storage. Pure."""

from __future__ import annotations

from pyarrow import fs

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.storage import Storage

CHECKPOINT = "checkpoint_20"
"""What the names of Ray Train's checkpoints begin with: in this century."""


class CheckpointStorage(Storage):
    """A folder with one folder in it for each attempt: the same rows, settings and strategy."""

    what = "train.checkpoint_storage"

    def __init__(self, uri: str, *, is_shared: bool) -> None:
        """`is_shared`: other runs may keep theirs here, too, and nothing of another attempt is removed."""
        super().__init__(uri)
        self._is_shared = is_shared

    def has_any(self, attempt: str) -> bool:
        """Return whether an attempt has a checkpoint, or the beginnings of one."""
        if not self.exists(attempt):
            return False
        infos = self.filesystem.get_file_info(fs.FileSelector(self.path(attempt)))
        return any(info.base_name.startswith(CHECKPOINT) for info in infos)

    def drop_others(self, attempt: str) -> None:
        """Remove what other rows or settings left, where no other run keeps its checkpoints."""
        if self._is_shared:
            return
        for info in self.filesystem.get_file_info(fs.FileSelector(self.root)):
            if info.type == fs.FileType.Directory and info.base_name != attempt:
                self.filesystem.delete_dir(info.path)

    def keep(self, attempt: str, count: int) -> None:
        """Remove all but an attempt's newest checkpoints; those that a killed driver left half done, too."""
        if not count:
            if self.exists(attempt):
                self.filesystem.delete_dir(self.path(attempt))
            return
        # Ray Train names them by the time.
        infos = self.filesystem.get_file_info(fs.FileSelector(self.path(attempt)))
        folders = (info.path for info in infos if info.base_name.startswith(CHECKPOINT))
        for path in sorted(folders)[:-count]:
            self.filesystem.delete_dir(path)


def checkpoint_storage(run: RunDirectory, settings: TrainSettings, arm: str) -> CheckpointStorage:
    """Return where an arm's checkpoints go; raises UserError for an address that cannot be opened."""
    if settings.checkpoint_storage is None:
        return CheckpointStorage(run.child_uri(run.checkpoints(arm)), is_shared=False)
    parent = CheckpointStorage(settings.checkpoint_storage, is_shared=True)
    return CheckpointStorage(parent.child_uri(arm), is_shared=True)
