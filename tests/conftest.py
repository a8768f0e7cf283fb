from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, plain_console
from tests.loopback import LoopbackServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# On a loaded machine an example may take long, and what failed once must fail again.
settings.register_profile("tests", deadline=None, derandomize=True)
settings.load_profile("tests")

ROWS = [
    {"instruction": "Name a fruit.", "input": "", "output": "An apple."},
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
    {"instruction": "Add the numbers.", "input": "two and three", "output": "Five."},
    {"instruction": "Say which day is after Friday.", "input": "", "output": "Saturday."},
]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(str(tmp_path / "runs" / "one"))


@pytest.fixture
def console() -> Console:
    return plain_console()


@pytest.fixture
def endpoint() -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout, not part of the project."""
    folder = Path(os.environ.get("ALPAGASUS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder
