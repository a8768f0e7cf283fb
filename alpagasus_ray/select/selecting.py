"""Selection: an arm's rows, written as the source has them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import read_rejected
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.judge.rubric_files import load_rubric
from alpagasus_ray.llm.asking import SET_ASIDE
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import ArmSettings, Recipe
from alpagasus_ray.recipe_files import NEW_ARM
from alpagasus_ray.schemas import DROPPED
from alpagasus_ray.select.selectors import SELECTORS, Candidate, Selection

TIES_MATTER_FROM = 0.1
"""Of the wanted share: a reached one that is farther off is pointed out."""


def select(run: RunDirectory, recipe: Recipe, arm: str, console: Console) -> Manifest:
    """Commit RUN/arms/<arm>/ (train.json, dropped.parquet, summary.json) and return its manifest.

    Raises UserError for an arm that the recipe does not have, for one that would be empty, and where
    grading has to come first.
    """
    settings = arm_settings(recipe, arm)
    if arm in settings.made_from:
        raise UserError(f"arm {arm} is made from itself: name another arm")
    check_rubric(run, recipe, arm)
    inputs = {run.triplets: run.require(run.triplets, "grade --data FILE")}
    if settings.by_score:
        reviews = _reviews(run, recipe, settings)
        inputs[reviews] = run.require(reviews, "grade")
    for other in settings.made_from:
        inputs[run.arm(other)] = run.require(run.arm(other), f"select --arm {other}")
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
    found, wanted = manifest.details.get("found"), settings.keep_share
    console.say(
        f"select: {arm} keeps {counts['kept']:,} of {counts['rows']:,} rows"
        + (f": {_found_words(found, wanted)}" if found and wanted else "")
    )
    if found and wanted and (line := _ties_words(arm, found, wanted, counts["kept"])):
        console.say(line)
    return manifest


def _found_words(found: Mapping[str, Any], wanted: float) -> str:
    reached = f"{100 * found['share_of_scored']:.2f} % of the scored"
    return f"score {found['threshold']:g} or more, {reached} ({100 * wanted:g} % wanted)"


def _ties_words(arm: str, found: Mapping[str, Any], wanted: float, kept: int) -> str | None:
    """Return what to do where equal scores keep the share far from the wanted one; None where they do not."""
    num_wanted = max(1, round(wanted * found["scored"]))
    if kept == num_wanted or abs(found["share_of_scored"] - wanted) <= TIES_MATTER_FROM * wanted:
        return None
    return (
        f"select: {arm}: equal scores allow no threshold nearer to {100 * wanted:g} %; for as many rows, "
        f"drawn among equals, use --top-k {num_wanted}; for scores that tell more rows apart, another judge"
    )


def arm_settings(recipe: Recipe, arm: str) -> ArmSettings:
    """Return the settings of an arm; raises UserError that names the nearest one."""
    if arm not in recipe.arms:
        known = nearest(arm, recipe.arms) if recipe.arms else " The recipe has no arms yet."
        raise UserError(f"there is no arm {arm}.{known} {NEW_ARM}")
    return recipe.arms[arm]


def check_rubric(run: RunDirectory, recipe: Recipe, arm: str) -> None:
    """Raise UserError where an arm goes by a rubric that is neither graded nor going to be."""
    rubric = arm_settings(recipe, arm).rubric
    if rubric is None or run.manifest(run.reviews(rubric, recipe.grade.model)):
        return
    known = [load_rubric(text).name for text in recipe.grade.rubric]
    if rubric not in known:
        raise UserError(f"arm {arm}: nothing is graded by a rubric {rubric}.{nearest(rubric, known)}")


def _reviews(run: RunDirectory, recipe: Recipe, settings: ArmSettings) -> str:
    """Return the folder of the reviews that an arm is chosen by."""
    rubric = settings.rubric or load_rubric(recipe.grade.rubric[0]).name
    return run.reviews(rubric, recipe.grade.model)


@dataclass(frozen=True)
class _Chosen:
    candidates: list[Candidate]
    selection: Selection


def _choose(run: RunDirectory, recipe: Recipe, arm: str) -> _Chosen:
    settings = recipe.arms[arm]
    # Not their texts: those are read part by part when the arm is written.
    triplets = run.read_tables(run.triplets, ["position", "id"])
    if settings.same_size_as:
        summary = json.loads(run.read_text(f"{run.arm(settings.same_size_as)}/summary.json"))
        settings = settings.model_copy(update={"count": summary["kept"]})
    candidates = _candidates(run, recipe, triplets, settings)
    outside = _outside(run, settings)
    inside = [candidate for candidate in candidates if candidate.position not in outside]
    _check_enough(arm, settings, inside)
    selection = SELECTORS[settings.selector](inside, settings)
    selection.dropped.update(outside)
    if not selection.kept:
        raise UserError(f"arm {arm} would be empty: {_why_empty(selection)}")
    return _Chosen(candidates, selection)


def _outside(run: RunDirectory, settings: ArmSettings) -> dict[int, str]:
    """Return why rows are not drawn from, by position: those that the arm `within` does not have."""
    if settings.within is None:
        return {}
    positions = run.read_tables(run.arm(settings.within), ["position"])["position"].to_pylist()
    return dict.fromkeys(positions, f"not in {settings.within}")


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
    scores: Iterable[float | None] = repeat(None)
    failures: Iterable[str | None] = repeat(None)
    if settings.by_score:
        reviews = run.read_tables(_reviews(run, recipe, settings), ["triplet_id", "score", "failure"])
        found = pc.index_in(triplets["id"], value_set=reviews["triplet_id"])
        scores = reviews["score"].take(found).to_pylist()
        failures = reviews["failure"].take(found).to_pylist()
    positions, ids = triplets["position"].to_pylist(), triplets["id"].to_pylist()
    return list(map(Candidate, positions, ids, scores, failures))


def _write_train_file(run: RunDirectory, arm: str, kept: Set[int]) -> None:
    """Write train.json: the bytes of json.dumps of all kept rows, of which one part is held at a time."""
    with run.writing(f"{run.arm(arm)}/train.json") as file:
        before = b"[\n    "
        for part in run.each_table(run.triplets, ["position", "source"]):
            pairs = zip(part["position"].to_pylist(), part["source"].to_pylist(), strict=True)
            rows = [json.loads(source) for position, source in pairs if position in kept]
            # A line break in a text stands as two characters in JSON: these are all between the values.
            texts = [json.dumps(row, ensure_ascii=False, indent=4).replace("\n", "\n    ") for row in rows]
            if texts:
                file.write(before + ",\n    ".join(texts).encode())
                before = b",\n    "
        file.write(b"\n]\n")


def _write(run: RunDirectory, arm: str, settings: ArmSettings, chosen: _Chosen) -> Made:
    folder = run.arm(arm)
    candidates, selection = chosen.candidates, chosen.selection
    num_kept = len(selection.kept)
    _write_train_file(run, arm, selection.kept)
    dropped = _dropped(run, candidates, selection)
    run.write_table(f"{folder}/dropped.parquet", dropped)
    reasons = dict(Counter(dropped["reason"].to_pylist()))
    summary: dict[str, Any] = {
        "arm": arm,
        "selector": settings.selector,
        "settings": settings.model_dump(mode="json", exclude_none=True, exclude={"selector"}),
        "kept": num_kept,
        "dropped": dropped.num_rows,
        "share": round(num_kept / (num_kept + dropped.num_rows), 6),
        "dropped_by_reason": reasons,
        # train.json has the source's fields: this says which of them are the texts.
        "row_form": run.require(run.triplets, "grade --data FILE").details.get("row_form"),
    }
    if selection.threshold is not None:
        scored = sum(candidate.score is not None for candidate in candidates)
        summary["found"] = {
            "threshold": selection.threshold,
            "scored": scored,
            "share_of_scored": round(num_kept / scored, 6),
        }
    run.write_text(f"{folder}/summary.json", json.dumps(summary, indent=2) + "\n")
    return Made(
        counts={"rows": num_kept + dropped.num_rows, "kept": num_kept, "dropped": dropped.num_rows},
        details=summary,
    )


def _dropped(run: RunDirectory, candidates: Sequence[Candidate], selection: Selection) -> pa.Table:
    """Return the rows that are not in the arm, and why: first the candidates, then those set aside."""
    out = [candidate for candidate in candidates if candidate.position in selection.dropped]
    set_aside = read_rejected(run.read_text(run.rejected))
    columns: dict[str, list[Any]] = {
        "position": [one.position for one in out] + [row["position"] for row in set_aside],
        "triplet_id": [one.triplet_id for one in out] + [row["id"] for row in set_aside],
        "score": [one.score for one in out] + [None for _ in set_aside],
        "reason": [selection.dropped[one.position] for one in out]
        + [f"{SET_ASIDE}: {row['reason']}" for row in set_aside],
    }
    return pa.Table.from_pydict(columns, schema=DROPPED)


def _why_empty(selection: Selection) -> str:
    reasons = Counter(selection.dropped.values()).most_common(3)
    return ", ".join(f"{reason} ({count:,} rows)" for reason, count in reasons)
