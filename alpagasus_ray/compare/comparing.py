"""Comparison on Ray: two models' answers are judged in both orders, and the verdicts counted."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.pairing import Answers, Pairing, pair, verdict_rows
from alpagasus_ray.compare.statistics import pool, summarize
from alpagasus_ray.compare.verdicts import Verdict
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.answers import read_answer_folder, read_committed_answers
from alpagasus_ray.judge.jobs import Bill, Spending, judge_job
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings, Recipe
from alpagasus_ray.schemas import VERDICTS

RUBRIC = PAIRWISE_RUBRICS["pairwise"]


def compare_arms(
    run: RunDirectory,
    recipe: Recipe,
    a: str,
    b: str,
    session: RaySession,
    console: Console,
    spending: Spending,
) -> Manifest:
    """Commit RUN/verdicts/<a>--vs--<b>--<judge>/ and return its manifest."""
    inputs = {run.answers(arm): run.require(run.answers(arm), f"generate --arm {arm}") for arm in (a, b)}
    answers = [read_committed_answers(run, arm) for arm in (a, b)]
    folder = run.verdicts(a, b, recipe.compare.model)
    return _compare(
        run, folder, recipe, (a, b), (answers[0], answers[1]), inputs, {}, session, console, spending
    )


def compare_folders(
    out: str, recipe: Recipe, a: str, b: str, session: RaySession, console: Console
) -> Manifest:
    """Commit the verdicts on any two folders of answers to the folder `out`; return its manifest."""
    parent, _, name = out.rstrip("/").rpartition("/")
    run = RunDirectory(parent or ".")
    answers = (read_answer_folder(a), read_answer_folder(b))
    content = {"answers": settings_hash({"pair": [_plain(one) for one in answers]})}
    return _compare(run, name, recipe, (a, b), answers, {}, content, session, console, Spending())


def _compare(
    run: RunDirectory,
    folder: str,
    recipe: Recipe,
    names: tuple[str, str],
    answers: tuple[Answers, Answers],
    inputs: dict[str, Manifest],
    content: dict[str, str],
    session: RaySession,
    console: Console,
    spending: Spending,
) -> Manifest:
    settings = recipe.compare
    shaping = settings.model_dump(include={"reader", "rule", "num_resamples", "seed"})
    pairing = pair(*answers)
    judging = _Judging(recipe, pairing, recipe.ledger or run.ledger, spending)
    manifest, worked = run.make(
        folder,
        "compare",
        {**settings.shapes_result(), **shaping, **content, "names": names},
        inputs,
        lambda: _judge(run, folder, pairing, judging, settings, names, session, console),
        check=judging.ask_first,
    )
    pooled = manifest.details["pooled"]
    score = (
        "no verdict" if pooled["winning_score"] is None else f"winning score {pooled['winning_score']:.3f}"
    )
    console.say(
        f"compare: {names[0]} against {names[1]}: {pooled['win']} win, {pooled['tie']} tie, "
        f"{pooled['lose']} lose, {score}" + ("" if worked else " (done before)")
    )
    return manifest


class _Judging:
    """The judge's part of a comparison: all pairs of answers, in both orders."""

    def __init__(self, recipe: Recipe, pairing: Pairing, ledger: str, spending: Spending) -> None:
        self._recipe, self._settings, self._pairing, self._ledger = recipe, recipe.compare, pairing, ledger
        self._spending = spending

    @property
    def bill(self) -> Bill:
        """What it has cost."""
        return self._pool.bill

    def ask_first(self) -> None:
        """Raise UserError where the judge cannot be asked, while old verdicts are still there."""
        # Imported here: it brings Ray and the judge's SDK, seconds that finished verdicts need not wait.
        from alpagasus_ray.judge.pool import JudgePool

        judge_key(self._settings)
        job = judge_job(self._recipe, self._settings, RUBRIC, self._settings.reader, self._ledger)
        self._pool = JudgePool(job, self._spending)
        if self._pairing.rows:
            self._pool.ask_first(self._pairing.rows)

    def judge(self, what: str, session: RaySession, console: Console) -> list[dict[str, Any]]:
        """Return all judged rows; raises StoppedEarly where the dollars did not suffice for them."""
        if not self._pairing.rows:
            return []
        session.connect()
        rows = self._pairing.rows
        with console.progress(what, len(rows), "judgments") as progress:
            judged = [row for chunk in self._pool.judge(rows, progress) for row in chunk]
        self.bill.raise_if_stopped(what, len(rows), self._settings.max_cost_usd)
        return judged


def _judge(
    run: RunDirectory,
    folder: str,
    pairing: Pairing,
    judging: _Judging,
    settings: CompareSettings,
    names: tuple[str, str],
    session: RaySession,
    console: Console,
) -> Made:
    judged = judging.judge(f"compare {names[0]}/{names[1]}", session, console)
    verdicts = verdict_rows(pairing, judged, settings.rule)
    for testset, of_testset in verdicts.items():
        rows = [_row(verdict, texts) for verdict, texts in of_testset]
        run.write_table(f"{folder}/{testset}.parquet", pa.Table.from_pylist(rows, schema=VERDICTS))
    plain = {testset: [verdict for verdict, _ in of_testset] for testset, of_testset in verdicts.items()}
    results = _results(plain, settings)
    run.write_text(f"{folder}/results.json", json.dumps(results, indent=2) + "\n")
    return _made(plain, results, judged, judging.bill, names, settings)


def _results(verdicts: dict[str, list[Verdict]], settings: CompareSettings) -> dict[str, Any]:
    options = {"num_resamples": settings.num_resamples, "seed": settings.seed}
    results = {
        testset: summarize(of_testset, **options).to_dict() for testset, of_testset in verdicts.items()
    }
    return {**results, "pooled": pool(verdicts, **options).to_dict()}


def _made(
    verdicts: dict[str, list[Verdict]],
    results: dict[str, Any],
    judged: list[dict[str, Any]],
    bill: Bill,
    names: tuple[str, str],
    settings: CompareSettings,
) -> Made:
    failures = Counter(
        failure_kind(verdict.failure)
        for of_testset in verdicts.values()
        for verdict in of_testset
        if verdict.failure
    )
    return Made(
        counts={"prompts": sum(map(len, verdicts.values())), "judgments": len(judged), "asked": bill.asked},
        failures=failures,
        cost_usd=bill.cost,
        details={
            "judge_model": settings.model,
            "passing_failures": num_passing(failures),
            "a": names[0],
            "b": names[1],
            "pooled": results["pooled"],
            "prompt_tokens": sum(row["prompt_tokens"] for row in judged),
            "completion_tokens": sum(row["completion_tokens"] for row in judged),
        },
    )


def _row(verdict: Verdict, texts: dict[str, str | None]) -> dict[str, Any]:
    first, swapped = verdict.first or (None, None), verdict.swapped or (None, None)
    return {
        "prompt_id": verdict.prompt_id,
        "category": verdict.category,
        "first_a": first[0],
        "first_b": first[1],
        "swapped_a": swapped[0],
        "swapped_b": swapped[1],
        "outcome": verdict.outcome,
        "flipped": verdict.flipped,
        "failure": verdict.failure,
        **texts,
    }


def _plain(answers: Answers) -> Any:
    return {
        testset: {prompt_id: [answer.prompt, answer.text] for prompt_id, answer in of_testset.items()}
        for testset, of_testset in answers.items()
    }
