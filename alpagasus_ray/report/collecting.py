"""What the committed artifacts of a run say, as plain records. Nothing is drawn or worded here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.manifests import Manifest
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.report.curves import Points, number, read_curves

POOLED = "pooled"


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


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of model A against model B on one test set, or on all of them pooled."""

    testset: str
    n: int
    win: int
    tie: int
    lose: int
    failures: int
    winning_score: float | None
    low: float | None
    high: float | None
    confidence: float
    p_exact: float | None
    """Two-sided p of the exact sign test."""
    flips: int | None
    first_slot_wins: int | None
    second_slot_wins: int | None
    draws: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Arm `a` against arm `b` in the eyes of one judge."""

    folder: str
    a: str
    b: str
    judge_model: str
    results: tuple[Result, ...]
    """One per test set."""
    pooled: Result | None

    @property
    def rows(self) -> tuple[Result, ...]:
        """All results, the pooled one first."""
        return (self.pooled, *self.results) if self.pooled else self.results

    @property
    def overall(self) -> Result | None:
        """The pooled result, or the only one."""
        return self.pooled or (self.results[0] if len(self.results) == 1 else None)


def collect_pairs(run: RunDirectory, recipe: Recipe, manifests: Mapping[str, Manifest]) -> tuple[Pair, ...]:
    """Return the comparisons, the recipe's pairs first and in its order."""
    arms = [folder.partition("/")[2] for folder in manifests if folder.startswith(("arms/", "answers/"))]
    pairs = [
        _pair(run, folder, manifest, arms)
        for folder, manifest in manifests.items()
        if folder.startswith("verdicts/")
    ]
    wanted = {pair: place for place, pair in enumerate(recipe.compare.pairs)}
    return tuple(sorted(pairs, key=lambda pair: (wanted.get((pair.a, pair.b), len(wanted)), pair.folder)))


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
    summary = _read_json(run, f"{run.arm(name)}/summary.json") if run.arm(name) in manifests else {}
    trained, found = manifests.get(run.model(name)), summary.get("found")
    said = {**trained.counts, **trained.details} if trained else {}
    training = {name: None if value != value else value for name, value in said.items()}  # NaN is no JSON
    curves = read_curves(run, run.model(name)) if trained else {}
    return Arm(
        name=name,
        selector=str(summary.get("selector") or ""),
        settings={**(summary.get("settings") or {}), **({"threshold": found["threshold"]} if found else {})},
        kept=_whole(summary.get("kept")),
        dropped=_whole(summary.get("dropped")),
        share=number(summary.get("share")),
        train_time_s=number(training.get("train_time_s")),
        training=training,
        losses=curves.pop("loss", ()),
        curves=curves,
    )


def _histogram(
    run: RunDirectory, folder: str, manifests: Mapping[str, Manifest], arms: Iterable[Arm]
) -> Histogram:
    reviews = run.read_tables(folder)
    scores = dict(zip(reviews["triplet_id"].to_pylist(), reviews["score"].to_pylist(), strict=True))
    # A row that stands twice in the corpus is graded once; arms count it twice, and so do the bars.
    ids = run.read_tables(run.triplets)["id"].to_pylist() if run.triplets in manifests else list(scores)
    rows = Counter(number(scores[id]) for id in ids if id in scores)
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


def _pair(run: RunDirectory, folder: str, manifest: Manifest, arms: Iterable[str]) -> Pair:
    a, _, rest = folder.partition("/")[2].partition("--vs--")
    # Names of arms and of judges may both hold "--": the longest arm that fits is meant.
    fitting = [arm for arm in arms if rest.startswith(f"{arm}--")]
    b = max(fitting, key=len) if fitting else rest.partition("--")[0]
    results = {
        name: _result(name, figures)
        for name, figures in _read_json(run, f"{folder}/results.json").items()
        if isinstance(figures, dict)
    }
    return Pair(
        folder=folder,
        a=a,
        b=b,
        judge_model=str(manifest.details.get("judge_model", rest.removeprefix(f"{b}--"))),
        results=tuple(result for name, result in results.items() if name != POOLED),
        pooled=results.get(POOLED),
    )


def _result(testset: str, figures: Mapping[str, Any]) -> Result:
    win, tie, lose = (_whole(figures.get(outcome)) or 0 for outcome in ("win", "tie", "lose"))
    n = win + tie + lose
    return Result(
        testset=testset,
        n=n,
        win=win,
        tie=tie,
        lose=lose,
        failures=_whole(figures.get("failures")) or 0,
        winning_score=number(figures.get("winning_score", (win - lose) / n + 1 if n else None)),
        low=number(figures.get("winning_score_low")),
        high=number(figures.get("winning_score_high")),
        confidence=number(figures.get("confidence")) or 0.95,
        p_exact=number(figures.get("sign_test_p_exact")),
        flips=_whole(figures.get("flips")),
        first_slot_wins=_whole(figures.get("first_slot_wins")),
        second_slot_wins=_whole(figures.get("second_slot_wins")),
        draws=_whole(figures.get("draws")),
    )


def _read_json(run: RunDirectory, path: str) -> dict[str, Any]:
    return dict(json.loads(run.read_text(path))) if run.exists(path) else {}


def _whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)
