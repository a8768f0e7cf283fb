"""A stage's judge: asked about rows through the ledger, watched, and billed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import JUDGE_NEEDS, Bill, JudgeJob, Spending
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.ray_session import RaySession

if TYPE_CHECKING:
    from alpagasus_ray.judge.pool import JudgePool


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
        enough: Callable[[], bool] | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield judged rows in chunks as they come in (see judging.JUDGED).

        `enough`: whether the rows so far suffice. It is asked after each portion; where the first n rows did,
        fewer than 1.5 n + 64 are judged; in return actors start anew for each portion, 2 to 3 s. Raises
        UserError for a judge most of whose replies cannot be read, and StoppedEarly where the dollars did
        not suffice.
        """
        if not rows:
            return
        session.wait_for(JUDGE_NEEDS, console.say)
        bill, num_judged = self.bill, 0
        # Where dollars were wanting for some rows, what comes after them would never be enough.
        ends = None if enough is None else lambda: enough() or bill.not_asked > 0
        with console.progress(what, len(rows), "judgments") as progress:
            for chunk in self._pool.judge(rows, progress, enough=ends):
                num_judged += len(chunk)
                yield chunk
        if enough is not None:
            if enough():
                return
            if bill.not_asked:
                bill.not_asked += len(rows) - num_judged
        bill.raise_if_stopped(what, len(rows), self._job.settings.max_cost_usd)

    def all_judged(
        self, rows: Sequence[dict[str, Any]], what: str, session: RaySession, console: Console
    ) -> list[dict[str, Any]]:
        """Return all judged rows at once; raises what `judged` does."""
        return [row for chunk in self.judged(rows, what, session, console) for row in chunk]
