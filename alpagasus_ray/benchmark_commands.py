"""The command `benchmark` and its flags. No Ray."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from alpagasus_ray import commands
from alpagasus_ray.benchmark.published import BENCHMARKS
from alpagasus_ray.command_flags import Flags, add_settings, add_switch, arm_names, split

SECTION = "benchmark"


def add_benchmark(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command."""
    names = ", ".join(BENCHMARKS)
    command = add_command("benchmark", commands.benchmark, "what the arms reach in MMLU, ARC and others")
    command.add_argument("--arms", type=arm_names, help="arms, separated by commas (all of the recipe)")
    flags: Flags = {
        "--tasks": ("tasks", split, f"{names}, any task of lm-eval's, or FILE.yaml; separated by commas"),
        "--limit": ("limit", int, "only the first so many questions of each task: to try out"),
        "--include-path": ("include_path", str, "a folder of further tasks"),
        "--base-url": ("base_url", str, "an endpoint that serves the arms already"),
        "--api-key-env": ("api_key_env", str, "the variable that holds that endpoint's key"),
    }
    add_settings(command, SECTION, flags)
    code = "run the code that the model writes (humaneval), as you"
    add_switch(command, SECTION, "--allow-code", "allow_code", code)
