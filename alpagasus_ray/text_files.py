"""Reading text files that users name."""

from __future__ import annotations

from pathlib import Path

from alpagasus_ray.errors import UserError


def read_text(path: str | Path) -> str:
    """Return a UTF-8 file's text; raises UserError that names the file and what is wrong with it."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
