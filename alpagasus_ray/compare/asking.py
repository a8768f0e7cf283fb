"""One judge of answers in pairs: asked through the ledger, watched, and billed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import JUDGE_NEEDS, Bill, Spending, judge_job
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS, Rubric
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings, Recipe


def rubric_of(settings: CompareSettings) -> Rubric:
    """Return what a judge of pairs is asked."""
    return replace(PAIRWISE_RUBRICS["pairwise"], delimit=settings.delimit)


class PairJudge:
    """A judge who is asked which of two answers is better."""

    def __init__(self, recipe: Recipe, settings: CompareSettings, ledger: str, spending: Spending) -> None:
        """`settings` name the judge, who need not be the recipe's own; raises UserError without its key."""
        # Imported here: it brings Ray and the judge's SDK, seconds that finished verdicts need not wait.
        from alpagasus_ray.judge.pool import JudgePool

        judge_key(settings)
        rubric = rubric_of(settings)
        job = judge_job(recipe, settings, rubric, settings.reader, ledger)
        self._settings = settings
        again = rubric.again if settings.ask_again else ""
        self._pool = JudgePool(replace(job, again=again, stop_unreadable=True), spending)

    @property
    def bill(self) -> Bill:
        """What it has cost."""
        return self._pool.bill

    def ask_first(self, rows: Sequence[dict[str, Any]]) -> None:
        """Raise UserError where the judge cannot be asked."""
        if rows:
            self._pool.ask_first(rows)

    def judged(
        self, rows: Sequence[dict[str, Any]], what: str, session: RaySession, console: Console
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield judged rows as they come in (see judging.JUDGED).

        Raises UserError for a judge most of whose replies cannot be read, and StoppedEarly where the dollars
        did not suffice.
        """
        if not rows:
            return
        session.wait_for(JUDGE_NEEDS, console.say)
        with console.progress(what, len(rows), "judgments") as progress:
            yield from self._pool.judge(rows, progress)
        self.bill.raise_if_stopped(what, len(rows), self._settings.max_cost_usd)
