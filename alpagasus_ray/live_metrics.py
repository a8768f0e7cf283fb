"""What Ray's metrics say right now of judges and trainings, read from the nodes' pages for Prometheus."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import chain
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.metrics_table import (
    COST,
    IN_FLIGHT,
    JUDGE,
    LOSS,
    METRICS,
    MFU,
    RATE_LIMITED,
    RETRYING,
    ROWS,
    ROWS_PER_SECOND,
    TOKENS_PER_SECOND,
    TRAIN,
    Metric,
)

TIMEOUT_S = 5.0
MAX_AT_ONCE = 64
Figures = dict[tuple[str, ...], dict[Metric, float]]
"""By the values of a room's labels, and the process that says so: it may have ended, and its node still shows
its last words. What has more labels is added up."""


def own_pages(run: RunDirectory) -> list[str]:
    """Return where the Ray that a local run has started itself shows its metrics; none where it has ended."""
    if not run.is_local:
        return []
    session = Path(run.path("logs/ray")).resolve().parent
    ports = [path.read_text(encoding="utf-8").strip() for path in session.glob("metrics_export_port_*")]
    return [f"http://127.0.0.1:{port}/metrics" for port in ports]


def read_figures(pages: Sequence[str]) -> tuple[Figures, int]:
    """Return the figures of all these pages together, and how many pages could not be read.

    They are asked at once: a node that is gone costs TIMEOUT_S, however many are.
    """
    figures: Figures = defaultdict(lambda: defaultdict(float))
    if not pages:
        return figures, 0
    with ThreadPoolExecutor(min(len(pages), MAX_AT_ONCE)) as asking:
        read = list(asking.map(_figures_of, pages))
    for key, metric, value in chain.from_iterable(found for found in read if found is not None):
        figures[key][metric] += value
    return figures, sum(found is None for found in read)


def _figures_of(page: str) -> list[tuple[tuple[str, ...], Metric, float]] | None:
    """Return what one page says; None where it cannot be read."""
    # Comes with Ray; imported here, where it is needed.
    from prometheus_client.parser import text_string_to_metric_families

    by_name = {metric.exported: metric for metric in METRICS if metric.kind != "histogram"}
    found = []
    try:
        with urllib.request.urlopen(page, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
        for sample in chain.from_iterable(family.samples for family in text_string_to_metric_families(text)):
            if (metric := by_name.get(sample.name)) is not None:
                labels = JUDGE if metric.room == "judge" else TRAIN
                key = (*(sample.labels[label] for label in labels), sample.labels["WorkerId"])
                found.append((key, metric, sample.value))
    except (OSError, HTTPException, ValueError, LookupError):  # no answer, or not one of a node's
        return None
    return found


def figures_in_words(figures: Figures, label: str) -> list[str]:
    """Return a line for each judge or training that is at work on this, such as `grade` or `train full`."""
    lines = []
    for (*labels, _), of in sorted(figures.items()):
        if len(labels) == len(JUDGE):
            stage, model, account = labels
            if stage != label.partition(" ")[0] or not (of[IN_FLIGHT] or of[ROWS_PER_SECOND] or of[RETRYING]):
                continue
            said = [
                f"{of[ROWS]:,.0f} rows, {of[ROWS_PER_SECOND]:,.1f}/s",
                f"{of[IN_FLIGHT]:,.0f} in flight",
                f"{of[RETRYING]:,.0f} being tried again" if of[RETRYING] else "",
                f"{of[RATE_LIMITED]:,.0f} times over the limit" if of[RATE_LIMITED] else "",
                f"${of[COST]:,.2f}" if of[COST] else "",
            ]
            lines.append(f"{stage} by {model} ({account}): {', '.join(filter(None, said))}")
        elif label == f"train {labels[0]}":
            mfu = f", MFU {of[MFU]:.2f}" if of[MFU] else ""
            lines.append(
                f"train {labels[0]}: loss {of[LOSS]:.3f}, {of[TOKENS_PER_SECOND]:,.0f} tokens/s{mfu}"
            )
    return lines
