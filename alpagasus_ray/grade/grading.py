"""Grading on Ray: every row of the corpus is scored by the judge, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import describe_failures, read_rejected
from alpagasus_ray.errors import UserError
from alpagasus_ray.grade.pilot import Pilot, pilot_ids
from alpagasus_ray.grade.places import RowsAtPlaces, places_of_triplets, sampled_rows
from alpagasus_ray.grade.reviews import Review
from alpagasus_ray.judge.jobs import JUDGE_NEEDS, Spending, judge_job
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubrics import Rubric
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, Manifest, RowDigest
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import GradeSettings, Recipe
from alpagasus_ray.schemas import REVIEWS
from alpagasus_ray.shared_folder import check_shared

ROWS_PER_FILE = 100_000
ROWS_PER_TABLE = 1_000
"""Rows that are held as dictionaries, which take five times the memory."""


def grade(
    run: RunDirectory,
    recipe: Recipe,
    rubric: Rubric,
    session: RaySession,
    console: Console,
    spending: Spending,
) -> Manifest:
    """Commit RUN/reviews/<rubric>--<judge>/ and return its manifest.

    A row that the judge cannot be made to score is a failure with its reason, and counted. Raises
    UserError, before Ray is started, when the judge cannot be asked at all.
    """
    settings = recipe.grade
    triplets = run.require(run.triplets, "grade --data FILE")
    folder = run.reviews(rubric.name, settings.model)
    hashed = {**settings.shapes_result(), **rubric.shapes_result()}
    grading = _Grading(run, recipe, rubric, folder, spending)
    manifest, worked = run.make(
        folder,
        "grade",
        hashed,
        {run.triplets: triplets},
        work=lambda: grading.work(_rows_to_grade(triplets), session, console),
        check=lambda: grading.check(session, console),
    )
    counts = manifest.counts
    console.say(
        f"grade: {counts['scored']:,} of {counts['reviews']:,} rows scored "
        f"for {rubric.name} by {settings.model}, "
        + (f"{counts['asked']:,} asked{_cost_words(manifest)}" if worked else "done before")
        + (f"; not scored: {describe_failures(manifest.failures)}" if manifest.failures else "")
    )
    if not worked and (line := manifest.details.get("guard", {}).get("complaint")):
        console.say(f"grade: {line}")
    return manifest


def _cost_words(manifest: Manifest) -> str:
    return f" for ${manifest.cost_usd:,.2f}" if manifest.cost_usd else ""


def _rows_to_grade(triplets: Manifest) -> int:
    """Return how many rows are asked about: a row that stands twice is graded once."""
    return int(triplets.counts["rows"]) - int(triplets.counts["duplicates"])


class _Grading:
    """The rows to grade, and the grading of them."""

    def __init__(
        self, run: RunDirectory, recipe: Recipe, rubric: Rubric, folder: str, spending: Spending
    ) -> None:
        self.run, self.recipe, self.rubric, self.folder = run, recipe, rubric, folder
        self.settings, self.spending = recipe.grade, spending
        self.places = pa.table({})
        self.guard: dict[str, Any] = {}
        self.asked_before: set[str] = set()
        """Rows that this command asked about before the work itself, which finds them in the ledger."""

    def check(self, session: RaySession, console: Console) -> None:
        """Raise UserError before an old artifact is cleared away, and before all rows are paid for."""
        self.ask_first_rows()
        if self.settings.guard.action != "off":
            self.judge_pilot(session, console)

    def ask_first_rows(self) -> None:
        """Raise UserError where the judge cannot be asked."""
        # Imported here: it brings Ray and the judge's SDK, seconds that finished reviews need not wait.
        from alpagasus_ray.judge.pool import MAX_FIRST, JudgePool

        judge_key(self.settings)
        ledger = self.recipe.ledger or self.run.ledger
        job = judge_job(self.recipe, self.settings, self.rubric, self.rubric.reader, ledger)
        self.pool = JudgePool(job, self.spending)
        self.places = places_of_triplets(self.run)
        self.rows_of = RowsAtPlaces(self.run.root if self.run.is_local else self.run.uri, self.rubric.fields)
        first = self.rows_of(self.places.slice(0, 1)).slice(0, MAX_FIRST).to_pylist()
        self.asked_before.update(row["id"] for row in self.pool.ask_first(first))

    def judge_pilot(self, session: RaySession, console: Console) -> None:
        """Say where the judge's scores of a few rows cannot select, or raise UserError where that is to stop.

        The replies go to the ledger like any other: the same rows cost nothing in the work itself.
        """
        settings = self.settings
        drawn = sampled_rows(self.run, self.rubric.fields, lambda ids: pilot_ids(ids, settings.guard))
        pilot = Pilot(drawn, settings.guard)
        if not pilot.rows.num_rows:
            return
        session.wait_for(JUDGE_NEEDS, console.say)
        rows = pilot.rows.to_pylist()
        with console.progress("pilot", pilot.rows.num_rows) as progress:
            judged = [row for chunk in self.pool.judge(rows, progress) for row in chunk]
        self.pool.bill.raise_if_stopped("pilot", pilot.rows.num_rows, settings.max_cost_usd)
        self.asked_before.update(row["id"] for row in judged if not row["from_ledger"])
        self.guard = pilot.findings(judged)
        if line := self.guard["complaint"]:
            # Where no reply at all could be read nothing can come of the others.
            if settings.guard.action == "stop" or not self.guard["num_rows"]:
                raise UserError(f"{line} (what was asked is kept; grade.guard.action=warn goes on)")
            console.say(f"grade: {line}")

    def work(self, num_rows: int, session: RaySession, console: Console) -> Made:
        """Ask for the other rows, and write the reviews as they come in."""
        session.wait_for(JUDGE_NEEDS, console.say)
        check_shared(self.run, "--run-dir")  # the judge's actors read their rows there
        tally, bill = _Tally(self.asked_before), self.pool.bill
        self._write_set_aside(tally)
        places = self.places.to_pylist()
        with console.progress("grade", num_rows) as progress:
            chunks = self.pool.judge(places, progress, rows_per_block=1, rows_of=self.rows_of)
            for number, table in enumerate(_tables(chunks, tally, self.rubric, self.settings)):
                self.run.write_table(f"{self.folder}/part-{number:05d}.parquet", table)
        bill.raise_if_stopped("grade", num_rows, self.settings.max_cost_usd)
        if (num_judged := tally.reviews - tally.set_aside) != num_rows:
            raise RuntimeError(f"{num_judged:,} of {num_rows:,} rows came back from the actors")
        return tally.made(self.settings, self.rubric, self.guard, bill.cost)

    def _write_set_aside(self, tally: _Tally) -> None:
        """Give the rows that are no triplets a review that says why."""
        reviews = [
            Review.of_rejected_row(row, self.rubric.name, self.settings.model).to_dict()
            for row in read_rejected(self.run.read_text(self.run.rejected))
        ]
        tally.add_set_aside(reviews)
        table = pa.Table.from_pylist(reviews, schema=REVIEWS)
        self.run.write_table(f"{self.folder}/set-aside.parquet", table)


class _Tally:
    """Counts what passes by, so that nothing has to be held."""

    def __init__(self, asked_before: Set[str]) -> None:
        self._asked_before = asked_before
        self.reviews = self.set_aside = self.asked = 0
        self.tokens = Counter({"prompt_tokens": 0, "completion_tokens": 0})
        self.failures: Counter[str] = Counter()
        self.digest = RowDigest()

    def add(self, reviews: list[dict[str, Any]], judged: list[dict[str, Any]]) -> None:
        self.reviews += len(reviews)
        self.asked += sum(not row["from_ledger"] or row["id"] in self._asked_before for row in judged)
        self.digest.add(reviews)
        for review in reviews:
            for name in self.tokens:
                self.tokens[name] += review[name]
            if review["failure"]:
                self.failures[failure_kind(review["failure"])] += 1

    def add_set_aside(self, reviews: list[dict[str, Any]]) -> None:
        self.reviews += len(reviews)
        self.set_aside = len(reviews)
        self.digest.add(reviews)
        self.failures.update(failure_kind(review["failure"]) for review in reviews)

    def made(
        self, settings: GradeSettings, rubric: Rubric, guard: dict[str, Any], cost_usd: float | None
    ) -> Made:
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
                "rubric": rubric.name,
                "judge_model": settings.model,
                "passing_failures": num_passing(self.failures),
                **self.tokens,
                **({"guard": guard} if guard else {}),
            },
            cost_usd=cost_usd,
            content=self.digest.hexdigest(),
        )


def _tables(
    chunks: Iterator[list[dict[str, Any]]],
    tally: _Tally,
    rubric: Rubric,
    settings: GradeSettings,
) -> Iterator[pa.Table]:
    """Yield files' worth of reviews while counting them."""
    tables: list[pa.Table] = []
    waiting: list[dict[str, Any]] = []
    for judged in chunks:
        reviews = [Review.of_judged_row(row, rubric.name, settings.model).to_dict() for row in judged]
        tally.add(reviews, judged)
        waiting += reviews
        if len(waiting) >= ROWS_PER_TABLE:
            tables.append(pa.Table.from_pylist(waiting, schema=REVIEWS))
            waiting = []
        if len(tables) * ROWS_PER_TABLE >= ROWS_PER_FILE:
            yield pa.concat_tables(tables)
            tables = []
    yield pa.concat_tables([*tables, pa.Table.from_pylist(waiting, schema=REVIEWS)])
