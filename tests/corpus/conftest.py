from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from alpagasus_ray.corpus.source_files import SourceFile
from alpagasus_ray.errors import UserError

ROW = {"instruction": "Name a fruit.", "input": "", "output": "An apple."}
OTHER = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
FileOf = Callable[..., Path]


@pytest.fixture
def file_of(tmp_path: Path) -> FileOf:
    """Write a file and return its path."""

    def write(content: bytes | str, name: str = "data.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def source_file(path: Path) -> SourceFile:
    return SourceFile(str(path), str(path), fs.LocalFileSystem())


def complaint(act: Callable[[], Any]) -> str:
    """Return what a UserError says; it must be one line."""
    with pytest.raises(UserError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    return text
