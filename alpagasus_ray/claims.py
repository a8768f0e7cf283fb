"""Whose a folder of an object store is while it is filled: such a store has no locks."""

from __future__ import annotations

import uuid

from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage

CLAIM = "_maker"
"""The file that says it. It goes once the folder has its manifest."""


class Claim:
    """One command's claim on a folder that it has cleared. On a local disk the run's lock does more."""

    def __init__(self, storage: Storage, folder: str, manifest: str) -> None:
        """Make the claim; `manifest` is what the file is called that commits the folder."""
        self._storage, self._file = storage, f"{folder}/{CLAIM}"
        self._manifest = f"{folder}/{manifest}"
        self._folder, self._own = folder, uuid.uuid4().hex
        if not storage.is_local:
            storage.write_text(self._file, self._own)

    def check(self) -> None:
        """Raise UserError where another command has cleared the folder meanwhile: it holds a mixture."""
        if not self._holds():
            raise UserError(
                f"{self._storage.shown(self._folder)}: another command has begun to make it anew: wait for "
                "its end, and run this again"
            )

    def release(self) -> None:
        """End the claim on a folder that has its manifest now.

        Raises UserError where another command came between: then the manifest is false, and is removed.
        """
        try:
            self.check()
        except UserError:
            if self._storage.exists(self._manifest):
                self._storage.remove(self._manifest)
            raise
        if not self._storage.is_local:
            self._storage.remove(self._file)

    def _holds(self) -> bool:
        if self._storage.is_local:
            return True
        try:
            return self._storage.read_text(self._file) == self._own
        except FileNotFoundError:
            return False
