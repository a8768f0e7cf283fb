"""A run directory in an object store, from ingest to report: a local one's figures, and no local path."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.small_demo import demo_command

pytestmark = pytest.mark.slow
RESULTS = "verdicts/filtered--vs--full--answer-key/results.json"


def demo(run_dir: str, here: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo in a folder of its own, with all that a machine keeps for itself in others."""
    # Ray's sockets lie in the temporary folder: their whole paths have 107 bytes at most.
    own = {"RAY_TMPDIR": "/tmp", "XDG_CACHE_HOME": str(here / "cache")}
    own |= {"TMPDIR": str(here / "tmp"), "PYTHONPATH": os.getcwd()}
    for folder in ("cwd", "tmp"):
        (here / folder).mkdir(exist_ok=True)
    return subprocess.run(
        demo_command(run_dir),
        env={**os.environ, **own},
        cwd=here / "cwd",
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )


@pytest.mark.timeout(1200)
def test_a_run_lives_in_an_object_store(finished_demo: tuple[Path, Any], bucket: str, tmp_path: Path) -> None:
    local_run = finished_demo[0]
    address = bucket.replace("NAME", "runs/demo")
    done = demo(address, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    run = RunDirectory(address)
    there = set(run.list_files(""))
    assert json.loads(run.read_text(RESULTS)) == json.loads((local_run / RESULTS).read_text())
    for folder in ("toyworld", "triplets", "arms", "models", "answers", "verdicts", "report"):
        local = {
            str(file.relative_to(local_run)) for file in (local_run / folder).rglob("*") if file.is_file()
        }
        # TensorBoard's files are called by the host's name and the time.
        missing = {name for name in local - there if "events.out" not in name}
        assert not missing
    assert RunDirectory(bucket.replace("NAME", "runs/ledger")).list_files(""), "replies are beside the run"

    # Nothing of the run is on this machine's disk, and nothing in the run points to there.
    assert not list((tmp_path / "cwd").iterdir())
    for name in there:
        if name.endswith((".json", ".jsonl", ".yaml", ".html")):
            assert str(tmp_path) not in run.read_text(name), name

    before = {name: run.read_text(name) for name in there if name.endswith("_manifest.json")}
    again = demo(address, tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert {name: run.read_text(name) for name in before} == before, "something was done again"
