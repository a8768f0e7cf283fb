"""Pairs: the answers of two models to each turn, judged in both orders by FastChat's rule."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from alpagasus_ray.compare.verdicts import FIRST, SWAPPED, decide_judged, winner
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.ingest import describe_failures
from alpagasus_ray.corpus.mt_bench import Question
from alpagasus_ray.judge.jobs import Spending
from alpagasus_ray.judge.mt_bench_prompts import PAIRWISE
from alpagasus_ray.judge.rubric_sets import CHOICE
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.mt_bench.answers import read_answers
from alpagasus_ray.mt_bench.bench import Bench
from alpagasus_ray.mt_bench.figures import Bootstrap, Compared, outcomes
from alpagasus_ray.mt_bench.judging import Judging, shaping, tokens, write_lines
from alpagasus_ray.mt_bench.rows import TURNS, Place, num_turns, pair_rows
from alpagasus_ray.ray_session import RaySession

STAGE = "mt-bench verdicts"
RULE = "mt-bench"
ByPlace = dict[Place, dict[str, Mapping[str, Any]]]
"""Judged rows by question and turn, and then by order."""
WINNERS = {1: "model_1", 0: "tie", -1: "model_2"}
"""FastChat's words for who won a judgment."""


def compare_models(
    bench: Bench, a: str, b: str, session: RaySession, console: Console, spending: Spending
) -> Manifest:
    """Commit RUN/mt-bench-verdicts/<a>--vs--<b>--<judge>/ and return its manifest.

    It holds judgments.jsonl in FastChat's form, failures.jsonl where there are any, and results.json. Raises
    UserError, before Ray is started, when the judge cannot be asked at all.
    """
    run = bench.run
    comparing = _Comparing(bench, (a, b), spending)
    manifest, worked = run.make(
        comparing.folder,
        STAGE,
        {**shaping(bench, PAIRWISE), "names": [a, b]},
        {run.mt_bench(one): run.require(run.mt_bench(one), "mt-bench") for one in (a, b)},
        lambda: comparing.work(session, console),
        check=comparing.judging.ask_first,
    )
    overall = manifest.details["overall"]
    failed = f"; not judged: {describe_failures(manifest.failures)}" if manifest.failures else ""
    console.say(
        f"mt-bench: {a} against {b}: {overall['win']} win, {overall['tie']} tie, {overall['lose']} lose "
        f"by {bench.settings.model}{failed}" + ("" if worked else " (done before)")
    )
    return manifest


class _Comparing:
    """The turns of two models, and the comparing of them."""

    def __init__(self, bench: Bench, names: tuple[str, str], spending: Spending) -> None:
        self._bench, self._names = bench, names
        self.folder = bench.run.mt_bench_verdicts(*names, bench.settings.model)
        self._answers = tuple(read_answers(bench, name) for name in names)
        self._rows = pair_rows(bench.questions, bench.references, *self._answers)
        self.judging = Judging(bench, PAIRWISE, self._rows, spending)

    def work(self, session: RaySession, console: Console) -> Made:
        """Fill the folder."""
        settings = self._bench.settings
        judged = self.judging.judge(f"mt-bench {'/'.join(self._names)}", session, console)
        by_place: ByPlace = {}
        for row in judged:
            by_place.setdefault((row["question_id"], row["turn"]), {})[row["order"]] = row
        compared = [
            self._compared(question, turn, by_place.get((question.key, turn), {}))
            for question in self._bench.questions
            for turn in TURNS
        ]
        results = outcomes(compared, Bootstrap(settings.num_resamples, settings.seed))
        a, b = self._names
        named = {"a": a, "b": b, "judge": settings.model, "mode": PAIRWISE, "rule": RULE, **results}
        text = json.dumps(named, indent=2, ensure_ascii=False)
        self._bench.run.write_text(f"{self.folder}/results.json", text + "\n")
        write_lines(self._bench, self.folder, self._lines(compared, by_place))
        return self._made(compared, judged, results)

    def _compared(self, question: Question, turn: int, judged: Mapping[str, Mapping[str, Any]]) -> Compared:
        silent = [
            name
            for name, answers in zip(self._names, self._answers, strict=True)
            if num_turns(answers.get(question.key)) < turn
        ]
        failure = f"no answer: {' and '.join(silent)}" if silent else None
        verdict = decide_judged(question.key, judged, RULE, failure=failure, category=question.category)
        return Compared(question.key, question.category, turn, verdict)

    def _lines(self, compared: Sequence[Compared], by_place: ByPlace) -> dict[str, list[dict[str, Any]]]:
        """Return the verdicts in the form of FastChat's play_a_match_pair, what failed beside them."""
        ids = {question.key: question.id for question in self._bench.questions}
        prompts = {
            (row["question_id"], row["turn"], row["order"]): self.judging.prompt(row) for row in self._rows
        }
        judged, failed = [], []
        for one in compared:
            common = {
                "question_id": ids[one.question_id],
                "model_1": self._names[0],
                "model_2": self._names[1],
                "turn": one.turn,
            }
            place = one.question_id, one.turn
            rows = by_place.get(place, {})
            texts = {
                f"g{game}_judgment": rows.get(order, {}).get("text")
                for game, order in enumerate((FIRST, SWAPPED), start=1)
            }
            first, swapped = one.verdict.first, one.verdict.swapped
            if first is None or swapped is None:
                failed.append({**common, **texts, "failure": one.verdict.failure})
                continue
            judged.append(
                {
                    **common,
                    "g1_winner": WINNERS[winner(first)],
                    "g2_winner": WINNERS[winner(swapped)],
                    "judge": [self._bench.settings.model, rows[FIRST][CHOICE]],
                    "g1_user_prompt": prompts[*place, FIRST],
                    "g2_user_prompt": prompts[*place, SWAPPED],
                    **texts,
                    "tstamp": time.time(),
                }
            )
        return {"judgments": judged, "failures": failed}

    def _made(
        self, compared: Sequence[Compared], judged: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
    ) -> Made:
        failures = Counter(failure_kind(one.verdict.failure) for one in compared if one.verdict.failure)
        bill = self.judging.bill
        return Made(
            counts={"turns": len(compared), "judgments": len(judged), "asked": bill.asked},
            failures=failures,
            cost_usd=bill.cost,
            details={
                "a": self._names[0],
                "b": self._names[1],
                "judge_model": self._bench.settings.model,
                "overall": results["overall"],
                "passing_failures": num_passing(failures),
                **tokens(judged),
            },
        )
