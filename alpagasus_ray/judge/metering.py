"""What Ray's metrics show of a judge at work. Counted where the judged rows come together: once a chunk."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from alpagasus_ray.judge.jobs import JudgeJob
from alpagasus_ray.llm.budget import Activity, Standing
from alpagasus_ray.metrics_table import (
    COST,
    FAILED_ROWS,
    IN_FLIGHT,
    LEDGER_HITS,
    PAUSE,
    RATE_LIMITED,
    RETRYING,
    ROWS,
    ROWS_PER_SECOND,
    TOKENS,
)
from alpagasus_ray.ray_metrics import Meter

RATE_OVER_S = 10.0


class JudgeMeter:
    """The metrics of one part of a stage."""

    def __init__(self, job: JudgeJob, stage: str) -> None:
        self._meter = Meter(stage=stage, model=job.settings.model, account=job.account)
        self._price = job.price
        self._rate_limited = self._rows = 0
        self._rows_at = deque([(time.monotonic(), 0)])

    def count_paid(self, rows: Sequence[dict[str, Any]]) -> None:
        """Count what judged rows (see judging.JUDGED) have cost."""
        paid = [row for row in rows if not row["from_ledger"]]
        prompt = sum(row["prompt_tokens"] for row in paid)
        completion = sum(row["completion_tokens"] for row in paid)
        self._meter.add(TOKENS, prompt, kind="prompt")
        self._meter.add(TOKENS, completion, kind="completion")
        if self._price is not None:
            self._meter.add(COST, self._price.cost_usd(prompt, completion))

    def count(self, rows: Sequence[dict[str, Any]]) -> None:
        """Count a chunk of judged rows."""
        self._rows += len(rows)
        self._meter.add(ROWS, len(rows))
        self._meter.add(LEDGER_HITS, sum(row["from_ledger"] for row in rows))
        # The kind alone: what follows it are the endpoint's words.
        kinds = Counter(row["failure"].partition(": ")[0] for row in rows if row["failure"])
        for kind, count in kinds.items():
            self._meter.add(FAILED_ROWS, count, kind=kind)
        self.count_paid(rows)

    def stand(self, standing: Standing, activity: Activity) -> None:
        """Show what is under way; to be called about once a second."""
        self._meter.show(PAUSE, standing.paused_s)
        self._meter.show(IN_FLIGHT, activity.num_in_flight)
        self._meter.show(RETRYING, activity.num_retrying)
        self._meter.show(ROWS_PER_SECOND, self._rate())
        self.count_rate_limited(activity.num_rate_limited - self._rate_limited)
        self._rate_limited = activity.num_rate_limited

    def count_rate_limited(self, more: int) -> None:
        """Count requests that the endpoint had no room for."""
        self._meter.add(RATE_LIMITED, more)

    def rest(self) -> None:
        """Show that nothing is under way any more."""
        for gauge in (PAUSE, IN_FLIGHT, RETRYING, ROWS_PER_SECOND):
            self._meter.show(gauge, 0.0)

    def _rate(self) -> float:
        now_s = time.monotonic()
        self._rows_at.append((now_s, self._rows))
        while len(self._rows_at) > 2 and now_s - self._rows_at[1][0] >= RATE_OVER_S:
            self._rows_at.popleft()
        then_s, then = self._rows_at[0]
        return (self._rows - then) / max(now_s - then_s, 1e-9)
