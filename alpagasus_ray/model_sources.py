"""From where a model lies to a folder on this machine, which is all that vLLM and transformers read."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pyarrow import fs

from alpagasus_ray.cache import cache_folder
from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage


class ModelFiles(Storage):
    """The files of a model, in a folder or an object store."""

    what = "the model folder"

    def read_json(self, name: str) -> dict[str, Any]:
        """Return what a file says; raises UserError when it is not a JSON object."""
        try:
            read = json.loads(self.read_text(name))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.shown(name)} cannot be read: {error}") from error
        if not isinstance(read, dict):
            raise UserError(f"{self.shown(name)} is not a JSON object.")
        return read

    def listing(self) -> str:
        """Return the files' names, sizes and times, a line each: another text where one has changed."""
        selector = fs.FileSelector(self.root, recursive=True, allow_not_found=True)
        infos = [info for info in self.filesystem.get_file_info(selector) if info.type == fs.FileType.File]
        return "\n".join(sorted(f"{info.path} {info.size} {info.mtime_ns}" for info in infos))


def is_folder_or_address(source: str) -> bool:
    """Return whether this is a folder or an address of one, and no name on a hub."""
    return "://" in source or Path(source).expanduser().is_dir()


def local_folder(source: str) -> str:
    """Return a folder on this machine with the model's files, fetched once where they lie elsewhere.

    `source` is a folder, an address in an object store (kept in the cache for as long as the files there have
    the same sizes and times), or a name on the Hugging Face hub (kept in its own cache).
    Raises UserError where nothing is there.
    """
    if "://" in source:
        return str(_fetched(ModelFiles(source)))
    if Path(source).expanduser().is_dir():
        return str(Path(source).expanduser().resolve())
    return _from_hub(source)


def _fetched(files: ModelFiles) -> Path:
    listing = files.listing()
    if not listing:
        raise UserError(f"There is no model folder {files.uri}.")
    target = cache_folder("models") / hashlib.sha256(f"{files.uri}\n{listing}".encode()).hexdigest()[:32]
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Replicas of one machine may fetch at once: each into a folder of its own, and the first one counts.
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}-"))
        try:
            fs.copy_files(
                files.root,
                str(partial),
                source_filesystem=files.filesystem,
                destination_filesystem=fs.LocalFileSystem(),
            )
            if not target.is_dir():
                partial.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise UserError(f"{files.uri} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _from_hub(name: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return snapshot_download(name, ignore_patterns=["*.gguf", "original/*"])
    except HFValidationError:
        raise UserError(f"There is no model folder {name}.") from None
    except Exception as error:  # the hub's client raises what its network library does
        said = str(error).strip().splitlines()
        raise UserError(
            f'"{name}" is no folder here, nor had from the hub: {said[0] if said else error}'
        ) from error
