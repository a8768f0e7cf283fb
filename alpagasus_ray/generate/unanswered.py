"""Prompts that got no answer: their reasons lie beside the answers. Shared by test sets and MT-Bench."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import describe_failures

UNANSWERED = "unanswered.json"
MAX_REASON_LENGTH = 200
"""Of what is shown on the screen."""


def write_unanswered(run: RunDirectory, folder: str, lacking: Sequence[Mapping[str, Any]]) -> None:
    """Write the folder's unanswered.json, where there is anything to say: which prompt, and its `reason`."""
    if lacking:
        text = json.dumps(lacking, indent=2, ensure_ascii=False)
        run.write_text(f"{folder}/{UNANSWERED}", f"{text}\n")


def describe_unanswered(run: RunDirectory, folder: str, failures: Mapping[str, int]) -> str:
    """Return a committed folder's failures in our own words: counts by kind, and where the reasons are."""
    name = f"{folder}/{UNANSWERED}"
    where = f" ({run.shown(name)} says why)" if run.exists(name) else ""
    return describe_failures(failures) + where


def show_reason(console: Console, prompt: str, reason: str) -> None:
    """Show why one prompt has no answer: the endpoint's words, which may hold the row, so not for the log."""
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in reason).split())
    words = words if len(words) <= MAX_REASON_LENGTH else f"{words[: MAX_REASON_LENGTH - 1]}…"
    console.show(f"{prompt} has no answer: {words}")
