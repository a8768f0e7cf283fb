"""Reading text files that users name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.errors import UserError


def read_text(path: str | Path) -> str:
    """Return a UTF-8 file's text, from a path or an object store's address (s3://...).

    Raises UserError that names the file and what is wrong with it.
    """
    try:
        if "://" in str(path):
            filesystem, name = fs.FileSystem.from_uri(str(path))
            with filesystem.open_input_stream(name) as stream:
                return bytes(stream.read()).decode("utf-8-sig")
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
