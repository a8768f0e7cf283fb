"""What Ray's metrics say right now of judges and trainings, read from the nodes' pages for Prometheus."""

from __future__ import annotations

import urllib.request
from collections import defaultdict
from collections.abc import Iterable
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


def read_figures(pages: Iterable[str]) -> Figures:
    """Return the figures of all these pages together; raises OSError where one cannot be read."""
    # Comes with Ray; imported here, where it is needed.
    from prometheus_client.parser import text_string_to_metric_families

    figures: Figures = defaultdict(lambda: defaultdict(float))
    by_name = {metric.exported: metric for metric in METRICS if metric.kind != "histogram"}
    for page in pages:
        with urllib.request.urlopen(page, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (metric := by_name.get(sample.name)) is not None:
                    labels = JUDGE if metric.room == "judge" else TRAIN
                    key = (*(sample.labels[label] for label in labels), sample.labels["WorkerId"])
                    figures[key][metric] += sample.value
    return figures


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
