"""What the committed artifacts of a run say, as plain records. Nothing is drawn or worded here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.manifests import Manifest
from alpagasus_ray.report.comparisons import Pair
from alpagasus_ray.report.curves import Points, number, read_curves
from alpagasus_ray.report.figures_files import read_json, whole


@dataclass(frozen=True, slots=True)
class Cut:
    """What an arm's threshold keeps of the graded rows."""

    arm: str
    threshold: float
    kept: int
    share: float
    """Of all rows, the unscored ones included."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many rows have each score of one rubric by one judge."""

    folder: str
    rubric: str
    judge_model: str
    bars: tuple[tuple[float, int], ...]
    """(score, rows), by score."""
    unscored: int
    """Rows without a readable score."""
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """How an arm's rows were chosen and what training on them took; None where it is not known (yet)."""

    name: str
    selector: str
    settings: Mapping[str, Any]
    kept: int | None
    dropped: int | None
    share: float | None
    train_time_s: float | None
    training: Mapping[str, Any]
    """Counts and details of the training's manifest."""
    losses: Points
    """(step, training loss), thinned to a few hundred points."""
    curves: Mapping[str, Points]
    """As much of validation_loss, learning_rate and gradient_norm, where they are known."""


def collect_arms(
    run: RunDirectory, manifests: Mapping[str, Manifest], pairs: Sequence[Pair]
) -> tuple[Arm, ...]:
    """Return the arms, those that were compared first and in that order."""
    there = [folder.partition("/")[2] for folder in manifests if folder.startswith(("arms/", "models/"))]
    compared = [name for pair in pairs for name in (pair.a, pair.b) if name in there]
    return tuple(_arm(run, name, manifests) for name in dict.fromkeys(compared + sorted(there)))


def collect_histograms(
    run: RunDirectory, manifests: Mapping[str, Manifest], arms: Iterable[Arm]
) -> tuple[Histogram, ...]:
    """Return the scores of every set of reviews, with the thresholds of the arms made from it."""
    folders = [folder for folder in manifests if folder.startswith("reviews/")]
    return tuple(_histogram(run, folder, manifests, arms) for folder in folders)


def _arm(run: RunDirectory, name: str, manifests: Mapping[str, Manifest]) -> Arm:
    summary = read_json(run, f"{run.arm(name)}/summary.json") if run.arm(name) in manifests else {}
    trained, found = manifests.get(run.model(name)), summary.get("found")
    said = {**trained.counts, **trained.details} if trained else {}
    training = {name: None if value != value else value for name, value in said.items()}  # NaN is no JSON
    curves = read_curves(run, run.model(name)) if trained else {}
    return Arm(
        name=name,
        selector=str(summary.get("selector") or ""),
        settings={**(summary.get("settings") or {}), **({"threshold": found["threshold"]} if found else {})},
        kept=whole(summary.get("kept")),
        dropped=whole(summary.get("dropped")),
        share=number(summary.get("share")),
        train_time_s=number(training.get("train_time_s")),
        training=training,
        losses=curves.pop("loss", ()),
        curves=curves,
    )


def _rows_by_score(run: RunDirectory, folder: str, has_triplets: bool) -> Counter[float | None]:
    """Return how many of the corpus's rows have each score; None: a review without one."""
    reviews = run.read_tables(folder, ["triplet_id", "score"])
    if has_triplets:
        # A row that stands twice in the corpus is graded once; arms count it twice, and so do the bars.
        ids = run.read_tables(run.triplets, ["id"])["id"]
        reviews = reviews.take(pc.index_in(ids, value_set=reviews["triplet_id"]).drop_null())
    rows = Counter[float | None]()
    for one in reviews["score"].value_counts().to_pylist():
        rows[number(one["values"])] += one["counts"]
    return rows


def _histogram(
    run: RunDirectory, folder: str, manifests: Mapping[str, Manifest], arms: Iterable[Arm]
) -> Histogram:
    rows = _rows_by_score(run, folder, run.triplets in manifests)
    unscored = rows.pop(None, 0)
    details = manifests[folder].details
    rubric, _, judge_model = folder.partition("/")[2].partition("--")
    cuts = [
        Cut(arm.name, threshold, arm.kept, arm.share or 0.0)
        for arm in arms
        if (threshold := number(arm.settings.get("threshold"))) is not None
        and arm.kept is not None
        and folder in manifests[run.arm(arm.name)].inputs
    ]
    return Histogram(
        folder=folder,
        rubric=str(details.get("rubric", rubric)),
        judge_model=str(details.get("judge_model", judge_model)),
        bars=tuple(sorted((score, count) for score, count in rows.items() if score is not None)),
        unscored=unscored,
        cuts=tuple(cuts),
    )
