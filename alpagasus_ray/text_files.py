"""Reading text files that users name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.errors import UserError

GCS_HASTE_S = 10
"""How long a store of Google's is asked that is only looked at; Arrow's own patience is 15 minutes."""


def in_haste(filesystem: fs.FileSystem) -> fs.FileSystem:
    """Return the same store, to be asked whether it is there at all: within seconds it answers, or fails."""
    if filesystem.type_name != "gcs":
        return filesystem
    make, (options,) = filesystem.__reduce__()
    return make({**options, "retry_time_limit": timedelta(seconds=GCS_HASTE_S)})


def read_text(path: str | Path) -> str:
    """Return a UTF-8 file's text, from a path or an object store's address (s3://...).

    Raises UserError that names the file and what is wrong with it.
    """
    try:
        if "://" in str(path):
            filesystem, name = fs.FileSystem.from_uri(str(path))
            with in_haste(filesystem).open_input_stream(name) as stream:
                return bytes(stream.read()).decode("utf-8-sig")
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
