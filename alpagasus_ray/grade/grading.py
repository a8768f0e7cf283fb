"""Grading on Ray: every row of the corpus is scored by the judge, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import describe_failures, read_rejected
from alpagasus_ray.errors import UserError
from alpagasus_ray.grade.pilot import Pilot
from alpagasus_ray.grade.reviews import Review
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, Manifest, RowDigest
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import GradeSettings, Recipe
from alpagasus_ray.schemas import REVIEWS

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
    grading = _Grading(run, recipe, folder)
    manifest, worked = run.make(
        folder,
        "grade",
        hashed,
        {run.triplets: triplets},
        work=lambda: grading.work(session, console),
        check=lambda: grading.check(session, console),
    )
    counts = manifest.counts
    console.say(
        f"grade: {counts['scored']:,} of {counts['reviews']:,} rows scored by {settings.model}, "
        + (f"{counts['asked']:,} asked" if worked else "done before")
        + (f"; not scored: {describe_failures(manifest.failures)}" if manifest.failures else "")
    )
    if not worked and (line := manifest.details.get("guard", {}).get("complaint")):
        console.say(f"grade: {line}")
    return manifest


class _Grading:
    """The rows to grade, and the grading of them."""

    def __init__(self, run: RunDirectory, recipe: Recipe, folder: str) -> None:
        self.run, self.recipe, self.folder = run, recipe, folder
        self.settings, self.ledger = recipe.grade, recipe.ledger or run.ledger
        self.rubric = RUBRICS[recipe.grade.rubric]
        self.rows = pa.table({})
        self.num_asked = 0
        self.guard: dict[str, Any] = {}

    def check(self, session: RaySession, console: Console) -> None:
        """Raise UserError before an old artifact is cleared away, and before all rows are paid for."""
        self.ask_first_row()
        self.judge_pilot(session, console)

    def ask_first_row(self) -> None:
        """Raise UserError where the judge cannot be asked."""
        # Imported here: it brings Ray and the judge's SDK, seconds that finished reviews need not wait.
        from alpagasus_ray.judge.pool import ask_pilot

        judge_key(self.settings)
        triplets = self.run.read_tables(self.run.triplets)
        self.rows = triplets.filter(pc.invert(triplets["duplicate"])).select(["id", *self.rubric.fields])
        first = self.rows.slice(0, 1).to_pylist()[0]
        pilot = ask_pilot(first, self.settings, self.settings.reader, self.rubric, self.ledger)
        self.num_asked = int(not pilot.from_ledger)

    def judge_pilot(self, session: RaySession, console: Console) -> None:
        """Say where the judge's scores of a few rows cannot select, or raise UserError where that is to stop.

        The replies go to the ledger like any other: the same rows cost nothing in the work itself.
        """
        from alpagasus_ray.judge.pool import judge_rows

        settings = self.settings
        pilot = Pilot(self.rows, settings.guard)
        if not pilot.rows.num_rows:
            return
        session.connect()
        judged: list[dict[str, Any]] = []
        with console.progress("pilot", pilot.rows.num_rows) as progress:
            for chunk in judge_rows(pilot.rows, settings, settings.reader, self.rubric, self.ledger):
                judged += chunk
                progress.advance(len(chunk))
        self.num_asked += pilot.num_asked(judged)
        self.guard = pilot.findings(judged)
        if line := self.guard["complaint"]:
            if settings.guard.action == "stop":
                raise UserError(f"{line} (what was asked is kept; grade.guard.action=warn goes on)")
            console.say(f"grade: {line}")

    def work(self, session: RaySession, console: Console) -> Made:
        """Ask for the other rows, and write the reviews as they come in."""
        from alpagasus_ray.judge.pool import judge_rows

        session.connect()
        tally = _Tally(self.num_asked)
        self._write_set_aside(tally)
        with console.progress("grade", self.rows.num_rows) as progress:
            chunks = judge_rows(self.rows, self.settings, self.settings.reader, self.rubric, self.ledger)
            for number, table in enumerate(_tables(chunks, tally, self.recipe, progress.advance)):
                self.run.write_table(f"{self.folder}/part-{number:05d}.parquet", table)
        return tally.made(self.settings, self.guard)

    def _write_set_aside(self, tally: _Tally) -> None:
        """Give the rows that are no triplets a review that says why."""
        reviews = [
            Review.of_rejected_row(row, self.settings.rubric, self.settings.model).to_dict()
            for row in read_rejected(self.run.read_text(self.run.rejected))
        ]
        tally.add_set_aside(reviews)
        table = pa.Table.from_pylist(reviews, schema=REVIEWS)
        self.run.write_table(f"{self.folder}/set-aside.parquet", table)


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

    def made(self, settings: GradeSettings, guard: dict[str, Any]) -> Made:
        failed = self.failures.total()
        return Made(
            counts={
                "reviews": self.reviews,
                "scored": self.reviews - failed,
                "asked": self.asked,
                "from_ledger": self.reviews - self.set_aside - self.asked,
            },
            failures=self.failures,
            details={
                "rubric": settings.rubric,
                "judge_model": settings.model,
                "passing_failures": num_passing(self.failures),
                **self.tokens,
                **({"guard": guard} if guard else {}),
            },
            cost_usd=settings.cost_usd,
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
        failed = tally.failures.total() - tally.set_aside
        advance(len(reviews), f"{failed:,} failed" if failed else None)
        waiting += reviews
        if len(waiting) >= ROWS_PER_FILE:
            yield pa.Table.from_pylist(waiting, schema=REVIEWS)
            waiting = []
    yield pa.Table.from_pylist(waiting, schema=REVIEWS)
