from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hypothesis import settings

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, plain_console
from alpagasus_ray.corpus.toyworld import generate_rows
from tests.loopback import LoopbackServer
from tests.object_store import object_store
from tests.shell import Shell
from tests.small_demo import run_demo

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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=2, help="how often each test that kills processes does so")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let slow ones be first where several processes share the tests: so they end at about the same time."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("slow", "cluster")))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Say what belongs together where several processes share the tests (`make test`).

    A file's fixtures are made once, and the demo, which takes minutes, is run by one process alone. (pytest
    9.2 does not know the groups of pytest-xdist 3.8.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            name = nodeid.partition("::")[0]
            return "the demo" if _uses_demo(config.rootpath / name) else name

    return ByFile(config, log)


@functools.cache
def _uses_demo(file: Path) -> bool:
    return "finished_demo" in file.read_text()


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of folder NAME in a bucket on an S3 server on loopback."""
    with object_store("replies") as address:
        yield address


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alpagasus_ray.train.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("tiny") / "base"
    rows = generate_rows(300, 0.5, 0)
    build_tiny_model(folder, [" ".join((r["instruction"], r["input"], r["output"])) for r in rows])
    return folder


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """The run directory of a small demo, to be copied, and what the command said."""
    run_dir = tmp_path_factory.mktemp("runs") / "demo"
    done = run_demo(run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir, done


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """A shell that has loaded nothing but the command line: a user's own start."""
    started = Shell()
    yield started
    started.close()


@pytest.fixture(scope="module")
def pipeline_shell() -> Iterator[Shell]:
    """A shell that has loaded the pipeline: where many commands need it, none has to wait for it."""
    started = Shell("alpagasus_ray.pipeline")
    yield started
    started.close()


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
