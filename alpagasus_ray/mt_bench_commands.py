"""The command `mt-bench`: two turns a question, graded singly, in pairs, or both."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from alpagasus_ray import commands
from alpagasus_ray.command_flags import JUDGE_FLAGS, Flags, add_settings, split
from alpagasus_ray.errors import UserError


def add_mt_bench_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add("mt-bench", commands.mt_bench, "MT-Bench: two turns a question, judged as FastChat does")
    flags: Flags = {
        "--arms": ("arms", split, "arms, separated by commas (all of the recipe)"),
        "--questions": ("questions", str, "FastChat's question.jsonl, or a file in its form"),
        "--references": ("references", str, "the file of reference answers, or none: judge without"),
        "--mode": ("mode", split, "single, pairwise, or both: single,pairwise"),
        "--baseline": ("baseline", str, "in pairs: all others are compared with it (each with each)"),
        "--answers": ("answer_files", named_files, "NAME=FILE,...: models whose answers are there already"),
    }
    # FastChat's replies have a form of their own, and one reader.
    judges = {flag: setting for flag, setting in JUDGE_FLAGS.items() if flag != "--reader"}
    add_settings(command, "mt_bench", {**flags, **judges})


def named_files(text: str) -> dict[str, str]:
    """Return files by the names before them.

    >>> named_files("gpt-4=a.jsonl, vicuna-13b=b.jsonl")
    {'gpt-4': 'a.jsonl', 'vicuna-13b': 'b.jsonl'}
    """
    files: dict[str, str] = {}
    for part in text.split(","):
        name, equals, file = part.strip().partition("=")
        if not (name and equals and file):
            raise UserError(f"--answers {text}: write it as NAME=FILE, such as gpt-4=gpt-4.jsonl")
        files[name] = file
    return files
