"""The whole road on real components, small: Ray Data, Ray Train with FSDP2, Ray Serve with vLLM."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.small_demo import demo_command, run_demo

pytestmark = pytest.mark.slow


def manifests(run_dir: Path) -> dict[str, int]:
    """When each artifact was committed, by its folder."""
    return {
        str(path.parent.relative_to(run_dir)): path.stat().st_mtime_ns
        for path in run_dir.rglob("_manifest.json")
    }


def processes_of(run_dir: Path) -> list[str]:
    """Command lines that name the run directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(run_dir) in command:
            found.append(command)
    return found


def test_the_demo_goes_from_rows_to_report_and_does_nothing_twice(
    finished_demo: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    finished, first = finished_demo
    run_dir = shutil.copytree(finished, tmp_path / "runs" / "demo")
    page = (run_dir / "report" / "index.html").read_text()
    assert "filtered" in page and "<script" not in page
    assert "index.html" in first.stdout and "winning score" in first.stdout
    for noise in ("ray::", "(raylet)", "INFO", "WARNING", "vllm"):
        assert noise not in first.stdout + first.stderr
    results = json.loads((run_dir / "verdicts/filtered--vs--full--answer-key/results.json").read_text())
    assert results["pooled"]["n"] == 28
    assert {"toy-facts", "toy-lists", "toy-numbers", "toy-words", "pooled"} == set(results)
    answers = [json.loads(line) for line in (run_dir / "answers/full/toy-lists.jsonl").open()]
    assert [set(answer) >= {"id", "prompt", "category", "answer", "finish_reason"} for answer in answers] == [
        True
    ] * 7

    before = manifests(run_dir)
    assert run_demo(run_dir, timeout_s=120).returncode == 0
    assert manifests(run_dir) == before, "something was done again"

    # What is thrown away comes back; what was made from the same content stays. The report shows times.
    shutil.rmtree(run_dir / "arms")
    assert run_demo(run_dir, timeout_s=120).returncode == 0
    after = manifests(run_dir)
    again = {folder for folder in after if after[folder] != before[folder]}
    assert again == {"arms/full", "arms/filtered", "report"}


def test_ctrl_c_stops_within_seconds_and_leaves_no_process(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "stopped"
    # Standard error is a file: a pipe that nobody reads would hold the command up.
    with (tmp_path / "stderr").open("w") as stderr:
        driver = subprocess.Popen(demo_command(run_dir), stdout=subprocess.DEVNULL, stderr=stderr)
        until_s = time.monotonic() + 240
        while not (run_dir / "models" / "full" / "metrics.jsonl").exists():
            assert time.monotonic() < until_s and driver.poll() is None
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=60) == 130
    assert "what was finished is kept" in (tmp_path / "stderr").read_text()
    until_s = time.monotonic() + 15
    while left := processes_of(run_dir):
        assert time.monotonic() < until_s, left
        time.sleep(0.5)
    assert (run_dir / "arms" / "filtered" / "_manifest.json").exists()
    assert not (run_dir / "models" / "full" / "_manifest.json").exists()
