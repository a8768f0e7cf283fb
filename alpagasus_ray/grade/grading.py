"""Grading on Ray: every row of the corpus is scored by the judge, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alpagasus_ray.artifacts import REVIEWS, RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import read_rejected
from alpagasus_ray.grade.reviews import Review
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.llm.asking import failure_kind
from alpagasus_ray.manifests import Made, Manifest, RowDigest
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe

ROWS_PER_FILE = 100_000


def grade(run: RunDirectory, recipe: Recipe, session: RaySession, console: Console) -> Manifest:
    """Commit RUN/reviews/<rubric>--<judge>/ and return its manifest.

    A row that the judge cannot be made to score is a failure with its reason, and counted. Raises
    UserError, before Ray is started, when the judge cannot be asked at all.
    """
    settings = recipe.grade
    triplets = run.require(run.triplets, "grade --data FILE")
    folder = run.reviews(settings.rubric, settings.model)
    hashed = {**settings.shapes_result(), "rubric": settings.rubric, "reader": settings.reader}
    manifest, worked = run.make(
        folder,
        "grade",
        hashed,
        {run.triplets: triplets},
        lambda: _grade(run, recipe, folder, session, console),
    )
    counts = manifest.counts
    console.say(
        f"grade: {counts['scored']:,} of {counts['reviews']:,} rows scored by {settings.model}, "
        + (f"{counts['asked']:,} asked" if worked else "done before")
    )
    return manifest


def _grade(run: RunDirectory, recipe: Recipe, folder: str, session: RaySession, console: Console) -> Made:
    # Imported here: it brings Ray and the judge's SDK, seconds that finished reviews need not wait.
    from alpagasus_ray.judge.pool import ask_pilot, judge_rows

    settings, ledger = recipe.grade, recipe.ledger or run.ledger
    judge_key(settings)
    rubric = RUBRICS[settings.rubric]
    rows = _unique_rows(run.read_tables(run.triplets)).select(["id", *rubric.fields])
    pilot = ask_pilot(rows.slice(0, 1).to_pylist()[0], settings, settings.reader, rubric, ledger)
    session.connect()
    tally = _Tally(asked=not pilot.from_ledger)
    set_aside = [
        Review.of_rejected_row(row, settings.rubric, settings.model).to_dict()
        for row in read_rejected(run.read_text(run.rejected))
    ]
    tally.add_set_aside(set_aside)
    run.write_table(f"{folder}/set-aside.parquet", pa.Table.from_pylist(set_aside, schema=REVIEWS))
    with console.progress("grade", rows.num_rows) as progress:
        chunks = judge_rows(rows, settings, settings.reader, rubric, ledger)
        for number, table in enumerate(_tables(chunks, tally, recipe, progress.advance)):
            run.write_table(f"{folder}/part-{number:05d}.parquet", table)
    return tally.made(settings.rubric, settings.model)


def _unique_rows(triplets: pa.Table) -> pa.Table:
    return triplets.filter(pc.invert(triplets["duplicate"]))


class _Tally:
    """Counts what passes by, so that nothing has to be held."""

    def __init__(self, asked: int) -> None:
        self.reviews = self.set_aside = 0
        self.asked = asked
        self.tokens = Counter({"prompt_tokens": 0, "completion_tokens": 0})
        self.failures: Counter[str] = Counter()
        self.digest = RowDigest()

    def add(self, reviews: list[dict[str, Any]], judged: list[dict[str, Any]]) -> None:
        self.reviews += len(reviews)
        self.digest.add(reviews)
        for review, row in zip(reviews, judged, strict=True):
            self.asked += not row["from_ledger"]
            for name in self.tokens:
                self.tokens[name] += review[name]
            if review["failure"]:
                self.failures[failure_kind(review["failure"])] += 1

    def add_set_aside(self, reviews: list[dict[str, Any]]) -> None:
        self.reviews += len(reviews)
        self.set_aside = len(reviews)
        self.digest.add(reviews)
        self.failures.update(failure_kind(review["failure"]) for review in reviews)

    def made(self, rubric: str, judge_model: str) -> Made:
        failed = self.failures.total()
        return Made(
            counts={
                "reviews": self.reviews,
                "scored": self.reviews - failed,
                "asked": self.asked,
                "from_ledger": self.reviews - self.set_aside - self.asked,
            },
            failures=self.failures,
            details={"rubric": rubric, "judge_model": judge_model, **self.tokens},
            content=self.digest.hexdigest(),
        )


def _tables(
    chunks: Iterator[list[dict[str, Any]]],
    tally: _Tally,
    recipe: Recipe,
    advance: Callable[[int, str | None], None],
) -> Iterator[pa.Table]:
    """Yield files' worth of reviews while counting them."""
    waiting: list[dict[str, Any]] = []
    for judged in chunks:
        reviews = [
            Review.of_judged_row(row, recipe.grade.rubric, recipe.grade.model).to_dict() for row in judged
        ]
        tally.add(reviews, judged)
        advance(len(reviews), f"{tally.failures.total():,} failed" if tally.failures else None)
        waiting += reviews
        if len(waiting) >= ROWS_PER_FILE:
            yield pa.Table.from_pylist(waiting, schema=REVIEWS)
            waiting = []
    yield pa.Table.from_pylist(waiting, schema=REVIEWS)
