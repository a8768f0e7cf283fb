from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.estimating.recipes import rows

BAD_ROWS: list[Any] = [{"instruction": "No output."}, {"instruction": "", "output": "x"}, 5]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """100 rows, three that are none, and two that stand there already."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps([*rows(100), *BAD_ROWS, *rows(2)]))
    return path
