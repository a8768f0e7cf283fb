"""The demo, small: every stage on real components, in about two minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NUM_PROMPTS = 28
"""Of all four test sets."""
OVERRIDES = (
    "toyworld.num_rows=300",
    f"toyworld.prompts_per_testset={NUM_PROMPTS // 4}",
    "train.epochs=1",
    "arms={full: {selector: full}, filtered: {selector: threshold, threshold: 4.5}}",
    "compare.pairs=[[filtered, full]]",
)
FLAGS = [word for override in OVERRIDES for word in ("--set", override)]


def demo_command(run_dir: Path | str) -> list[str]:
    """Return the command that runs it."""
    return [sys.executable, "-m", "alpagasus_ray.cli", "demo", "--run-dir", str(run_dir), *FLAGS]


def run_demo(run_dir: Path, timeout_s: float = 590) -> subprocess.CompletedProcess[str]:
    """Run it to its end, whichever that is."""
    return subprocess.run(
        demo_command(run_dir), capture_output=True, text=True, timeout=timeout_s, check=False
    )
