"""Selection: an arm's rows, written as the source has them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import read_rejected
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.llm.asking import SET_ASIDE
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import ArmSettings, Recipe
from alpagasus_ray.schemas import DROPPED
from alpagasus_ray.select.selectors import SELECTORS, Candidate, Selection


def select(run: RunDirectory, recipe: Recipe, arm: str, console: Console) -> Manifest:
    """Commit RUN/arms/<arm>/ (train.json, dropped.parquet, summary.json) and return its manifest.

    Raises UserError for an arm that the recipe does not have, for one that would be empty, and where
    grading has to come first.
    """
    settings = arm_settings(recipe, arm)
    if settings.same_size_as == arm:
        raise UserError(f"arm {arm} takes its size from itself: name another arm")
    inputs = {run.triplets: run.require(run.triplets, "grade --data FILE")}
    if settings.selector in ("threshold", "top-k"):
        reviews = run.reviews(recipe.grade.rubric, recipe.grade.model)
        inputs[reviews] = run.require(reviews, "grade")
    if settings.same_size_as:
        other = run.arm(settings.same_size_as)
        inputs[other] = run.require(other, f"select --arm {settings.same_size_as}")
    chosen: list[_Chosen] = []
    manifest, _ = run.make(
        run.arm(arm),
        "select",
        settings.model_dump(mode="json"),
        inputs,
        work=lambda: _write(run, arm, settings, chosen[0]),
        # An arm that would be empty does not take the place of one that is there.
        check=lambda: chosen.append(_choose(run, recipe, arm)),
    )
    counts = manifest.counts
    console.say(f"select: {arm} keeps {counts['kept']:,} of {counts['rows']:,} rows")
    return manifest


def arm_settings(recipe: Recipe, arm: str) -> ArmSettings:
    """Return the settings of an arm; raises UserError that names the nearest one."""
    if arm not in recipe.arms:
        known = nearest(arm, recipe.arms) if recipe.arms else " The recipe has no arms yet."
        raise UserError(f"there is no arm {arm}.{known}")
    return recipe.arms[arm]


@dataclass(frozen=True)
class _Chosen:
    triplets: pa.Table
    candidates: list[Candidate]
    selection: Selection


def _choose(run: RunDirectory, recipe: Recipe, arm: str) -> _Chosen:
    settings = recipe.arms[arm]
    triplets = run.read_tables(run.triplets).sort_by("position")
    if settings.same_size_as:
        summary = json.loads(run.read_text(f"{run.arm(settings.same_size_as)}/summary.json"))
        settings = settings.model_copy(update={"count": summary["kept"]})
    candidates = _candidates(run, recipe, triplets, settings)
    _check_enough(arm, settings, candidates)
    selection = SELECTORS[settings.selector](candidates, settings)
    if not selection.kept:
        raise UserError(f"arm {arm} would be empty: {_why_empty(selection)}")
    return _Chosen(triplets, candidates, selection)


def _check_enough(arm: str, settings: ArmSettings, candidates: list[Candidate]) -> None:
    graded = settings.selector == "top-k"
    wanted = settings.k if graded else settings.count
    there = sum(candidate.score is not None for candidate in candidates) if graded else len(candidates)
    if wanted is not None and wanted > there:
        raise UserError(
            f"arm {arm} wants {wanted:,} rows and only {there:,} are there"
            + (f" with a score: set --top-k to {there}" if graded else f": set --random to {there}")
        )


def _candidates(
    run: RunDirectory, recipe: Recipe, triplets: pa.Table, settings: ArmSettings
) -> list[Candidate]:
    reviews: dict[str, dict[str, Any]] = {}
    if settings.selector in ("threshold", "top-k"):
        folder = run.reviews(recipe.grade.rubric, recipe.grade.model)
        table = run.read_tables(folder).select(["triplet_id", "score", "failure"])
        reviews = {row["triplet_id"]: row for row in table.to_pylist()}
    return [
        Candidate(
            row["position"],
            row["id"],
            reviews.get(row["id"], {}).get("score"),
            reviews.get(row["id"], {}).get("failure"),
        )
        for row in triplets.select(["position", "id"]).to_pylist()
    ]


def _write(run: RunDirectory, arm: str, settings: ArmSettings, chosen: _Chosen) -> Made:
    folder = run.arm(arm)
    triplets, candidates, selection = chosen.triplets, chosen.candidates, chosen.selection
    rows = triplets.select(["position", "source"]).to_pylist()
    kept = [json.loads(row["source"]) for row in rows if row["position"] in selection.kept]
    run.write_text(f"{folder}/train.json", json.dumps(kept, ensure_ascii=False, indent=4) + "\n")
    dropped = [
        {
            "position": candidate.position,
            "triplet_id": candidate.triplet_id,
            "score": candidate.score,
            "reason": selection.dropped[candidate.position],
        }
        for candidate in candidates
        if candidate.position in selection.dropped
    ]
    dropped += [
        {
            "position": row["position"],
            "triplet_id": row["id"],
            "score": None,
            "reason": f"{SET_ASIDE}: {row['reason']}",
        }
        for row in read_rejected(run.read_text(run.rejected))
    ]
    run.write_table(f"{folder}/dropped.parquet", pa.Table.from_pylist(dropped, schema=DROPPED))
    reasons = dict(Counter(str(row["reason"]) for row in dropped))
    summary = {
        "arm": arm,
        "selector": settings.selector,
        "settings": settings.model_dump(mode="json", exclude_none=True, exclude={"selector"}),
        "kept": len(kept),
        "dropped": len(dropped),
        "share": round(len(kept) / (len(kept) + len(dropped)), 6),
        "dropped_by_reason": reasons,
        # train.json has the source's fields: this says which of them are the texts.
        "row_form": run.require(run.triplets, "grade --data FILE").details.get("row_form"),
    }
    run.write_text(f"{folder}/summary.json", json.dumps(summary, indent=2) + "\n")
    return Made(
        counts={"rows": len(kept) + len(dropped), "kept": len(kept), "dropped": len(dropped)}, details=summary
    )


def _why_empty(selection: Selection) -> str:
    reasons = Counter(selection.dropped.values()).most_common(3)
    return ", ".join(f"{reason} ({count:,} rows)" for reason, count in reasons)
