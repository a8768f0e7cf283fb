"""A stage's judge: asked about rows through the ledger, watched, and billed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import JUDGE_NEEDS, Bill, JudgeJob, Spending
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.ray_session import RaySession

if TYPE_CHECKING:
    from alpagasus_ray.judge.pool import JudgePool


FIRST_PORTION = 64
"""Rows, where the caller may stop early: a sequential sign test at 0.01 is clear after 19 prompts, in both
orders, where all agree."""


class RowsJudge:
    """A judge who is asked about rows, and stopped where most of his first replies cannot be read."""

    def __init__(self, job: JudgeJob, spending: Spending) -> None:
        self._job, self._spending = replace(job, stop_unreadable=True), spending

    @cached_property
    def _pool(self) -> JudgePool:
        # Imported here: it brings Ray and the judge's SDK, seconds that finished work need not wait.
        from alpagasus_ray.judge.pool import JudgePool

        judge_key(self._job.settings)
        return JudgePool(self._job, self._spending)

    @property
    def bill(self) -> Bill:
        """What it has cost."""
        return self._pool.bill

    def ask_first(self, rows: Sequence[dict[str, Any]]) -> None:
        """Raise UserError where the judge has no key or cannot be asked, while old work is still there."""
        pool = self._pool
        if rows:
            pool.ask_first(rows)

    def judged(
        self,
        rows: Sequence[dict[str, Any]],
        what: str,
        session: RaySession,
        console: Console,
        *,
        may_stop_early: bool = False,
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield judged rows in chunks as they come in (see judging.JUDGED).

        `may_stop_early`: the caller may want no more after any chunk. Where the first n rows were enough,
        fewer than 2 n and FIRST_PORTION are asked about (or max_concurrency, where that is more); in return
        the actors start anew for each portion, 2 to 3 s. Raises UserError for a judge most of whose replies
        cannot be read, and StoppedEarly where the dollars did not suffice.
        """
        if not rows:
            return
        session.wait_for(JUDGE_NEEDS, console.say)
        with console.progress(what, len(rows), "judgments") as progress:
            first = max(FIRST_PORTION, self._job.settings.max_concurrency) if may_stop_early else None
            yield from self._pool.judge(rows, progress, first_portion=first)
        self.bill.raise_if_stopped(what, len(rows), self._job.settings.max_cost_usd)

    def all_judged(
        self, rows: Sequence[dict[str, Any]], what: str, session: RaySession, console: Console
    ) -> list[dict[str, Any]]:
        """Return all judged rows at once; raises what `judged` does."""
        return [row for chunk in self.judged(rows, what, session, console) for row in chunk]
