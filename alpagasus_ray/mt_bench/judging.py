"""The judge's part of MT-Bench: rows of answers go to the pool, judgments come back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import JUDGE_NEEDS, Bill, Spending, judge_job
from alpagasus_ray.judge.mt_bench_prompts import MT_BENCH_RUBRICS
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubric_sets import CHOICE
from alpagasus_ray.manifests import settings_hash
from alpagasus_ray.mt_bench.bench import Bench
from alpagasus_ray.ray_session import RaySession


class Judging:
    """All rows of one artifact, and the asking about them."""

    def __init__(self, bench: Bench, mode: str, rows: Sequence[dict[str, Any]], spending: Spending) -> None:
        self._settings, self._rows, self._spending = bench.settings, rows, spending
        self._rubrics = MT_BENCH_RUBRICS[mode]
        ledger = bench.recipe.ledger or bench.run.ledger
        self._job = judge_job(bench.recipe, self._settings, self._rubrics, self._rubrics.reader, ledger)

    @property
    def bill(self) -> Bill:
        """What it has cost."""
        return self._pool.bill

    def ask_first(self) -> None:
        """Raise UserError where the judge cannot be asked, while old judgments are still there."""
        # Imported here: it brings Ray and the judge's SDK, seconds that finished work need not wait.
        from alpagasus_ray.judge.pool import JudgePool

        judge_key(self._settings)
        self._pool = JudgePool(replace(self._job, stop_unreadable=True), self._spending)
        if self._rows:
            self._pool.ask_first(self._rows)

    def judge(self, what: str, session: RaySession, console: Console) -> list[dict[str, Any]]:
        """Return all judged rows; raises StoppedEarly where the dollars did not suffice for them."""
        if not self._rows:
            return []
        session.wait_for(JUDGE_NEEDS, console.say)
        with console.progress(what, len(self._rows), "judgments") as progress:
            judged = [row for chunk in self._pool.judge(self._rows, progress) for row in chunk]
        self.bill.raise_if_stopped(what, len(self._rows), self._settings.max_cost_usd)
        return judged

    def prompt(self, row: Mapping[str, Any]) -> str:
        """Return the user's message that a row was judged by."""
        return self._rubrics[row[CHOICE]].render(row)[-1].content


def tokens(judged: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return what judged rows used, for a manifest."""
    return {name: sum(row[name] for row in judged) for name in ("prompt_tokens", "completion_tokens")}


def shaping(bench: Bench, mode: str) -> dict[str, Any]:
    """Return what shapes the judgments of a mode, beside the answers."""
    return {
        **bench.settings.shapes_scores(),
        "prompts": settings_hash(MT_BENCH_RUBRICS[mode].shapes_result()),
        "questions": bench.content,
    }


def write_lines(bench: Bench, folder: str, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write rows as JSONL files by name; no file where there are no rows."""
    for name, rows in files.items():
        if rows:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            bench.run.write_text(f"{folder}/{name}.jsonl", lines)
