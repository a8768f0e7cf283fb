"""Judging the judge on Ray: pairs that people labelled are judged in both orders, and both sides compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.agreement import JudgedPair, agreement
from alpagasus_ray.compare.agreement_table import agreement_line, agreement_table
from alpagasus_ray.compare.asking import pair_judge, rubric_of
from alpagasus_ray.compare.human_labels import HumanLabels, LabelledPair, read_human_labels
from alpagasus_ray.compare.out_folder import refuse_others_files
from alpagasus_ray.compare.verdicts import FIRST, RULES, SWAPPED, Verdict, decide_judged, in_both_orders
from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import Spending
from alpagasus_ray.judge.rows_judge import RowsJudge
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings, Recipe
from alpagasus_ray.schemas import AGREEMENT

FIGURES, ROWS, SET_ASIDE = "agreement.json", "rows.parquet", "set_aside.json"


def judge_the_judge(
    run: RunDirectory, folder: str, recipe: Recipe, ledger: str, session: RaySession, console: Console
) -> str:
    """Commit a judge's agreement with people to a folder of `run`; return it as a table.

    Every pair is asked about twice, with either answer first; the figures are those of both rules, which
    read the same judgments. Raises UserError for labels that cannot be read, before anything is asked.
    """
    settings, wanted = recipe.compare, recipe.agreement
    assert wanted.labels is not None
    refuse_others_files(run, folder, "agreement")
    labels = read_human_labels(wanted.labels, wanted.columns, wanted.limit)
    judge = pair_judge(recipe, settings, ledger, Spending())
    shaping = settings.model_dump(include={"reader", "num_resamples", "seed"})
    content = settings_hash({"pairs": list(map(astuple, labels.pairs)), "set_aside": labels.set_aside})
    _, worked = run.make(
        folder,
        "agreement",
        {
            **settings.shapes_result(),
            **shaping,
            "rubric": rubric_of(settings).shapes_result(),
            "labels": content,
        },
        {},
        lambda: _judge(run, folder, labels, judge, settings, session, console),
        check=lambda: judge.ask_first(judge_rows(labels.pairs)),
    )
    results = json.loads(run.read_text(f"{folder}/{FIGURES}"))
    console.say(agreement_line(results, settings.rule) + ("" if worked else " (done before)"))
    return agreement_table(results)


def judge_rows(pairs: Sequence[LabelledPair]) -> list[dict[str, Any]]:
    """Return what the judge is asked: two rows a pair, with its place in `pairs`."""
    return [
        {"pair": place, "order": order, "question": pair.question, "answer_1": one, "answer_2": two}
        for place, pair in enumerate(pairs)
        for order, one, two in in_both_orders(pair.answer_a, pair.answer_b)
    ]


def verdicts_by_rule(num_pairs: int, judged: Iterable[Mapping[str, Any]]) -> dict[str, list[Verdict]]:
    """Return each rule's verdicts, in the order of the pairs; a failure where a judgment is not there."""
    by_order: list[dict[str, Mapping[str, Any]]] = [{} for _ in range(num_pairs)]
    for row in judged:
        by_order[row["pair"]][row["order"]] = row
    return {
        rule: [decide_judged(str(place), rows, rule) for place, rows in enumerate(by_order)] for rule in RULES
    }


def _judge(
    run: RunDirectory,
    folder: str,
    labels: HumanLabels,
    judge: RowsJudge,
    settings: CompareSettings,
    session: RaySession,
    console: Console,
) -> Made:
    judged = judge.all_judged(judge_rows(labels.pairs), "agreement", session, console)
    verdicts = verdicts_by_rule(len(labels.pairs), judged)
    rows = _table_rows(labels.pairs, verdicts, judged)
    run.write_table(f"{folder}/{ROWS}", pa.Table.from_pylist(rows, schema=AGREEMENT))
    run.write_text(f"{folder}/{SET_ASIDE}", json.dumps(labels.set_aside, indent=2) + "\n")
    results = _results(labels, verdicts, settings)
    run.write_text(f"{folder}/{FIGURES}", json.dumps(results, indent=2) + "\n")
    failures = Counter(failure_kind(one.failure) for one in verdicts[settings.rule] if one.failure)
    return Made(
        counts={
            "rows": labels.num_rows,
            "set_aside": len(labels.set_aside),
            "pairs": len(labels.pairs),
            "judgments": len(judged),
            "asked": judge.bill.asked,
        },
        failures=failures,
        cost_usd=judge.bill.cost,
        details={
            "judge_model": settings.model,
            "passing_failures": num_passing(failures),
            "set_aside_reasons": labels.reasons,
            "prompt_tokens": sum(row["prompt_tokens"] for row in judged),
            "completion_tokens": sum(row["completion_tokens"] for row in judged),
        },
    )


def _results(
    labels: HumanLabels, verdicts: Mapping[str, Sequence[Verdict]], settings: CompareSettings
) -> dict[str, Any]:
    """Return what agreement.json holds."""
    options = {"num_resamples": settings.num_resamples, "seed": settings.seed}
    return {
        "judge_model": settings.model,
        "rows": labels.num_rows,
        "set_aside": labels.reasons,
        "pairs": len(labels.pairs),
        "labels": sum(pair.votes.total for pair in labels.pairs),
        "rules": {
            rule: agreement(_judged_pairs(labels.pairs, of_rule), **options).to_dict()
            for rule, of_rule in verdicts.items()
        },
    }


def _judged_pairs(pairs: Sequence[LabelledPair], verdicts: Sequence[Verdict]) -> list[JudgedPair]:
    return [
        JudgedPair(pair.votes, verdict, len(pair.answer_a), len(pair.answer_b))
        for pair, verdict in zip(pairs, verdicts, strict=True)
    ]


def _table_rows(
    pairs: Sequence[LabelledPair],
    verdicts: Mapping[str, Sequence[Verdict]],
    judged: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    texts = {(row["pair"], row["order"]): row["text"] for row in judged}
    rows = []
    for place, pair in enumerate(pairs):
        verdict = verdicts["paper"][place]
        first, swapped = verdict.first or (None, None), verdict.swapped or (None, None)
        rows.append(
            {
                "row": pair.row,
                "turns": pair.turns,
                "question": pair.question,
                "answer_a": pair.answer_a,
                "answer_b": pair.answer_b,
                "human_win": pair.votes.win,
                "human_tie": pair.votes.tie,
                "human_lose": pair.votes.lose,
                "human": pair.votes.majority,
                "first_a": first[0],
                "first_b": first[1],
                "swapped_a": swapped[0],
                "swapped_b": swapped[1],
                "outcome_paper": verdict.outcome,
                "outcome_mt_bench": verdicts["mt-bench"][place].outcome,
                "flipped": verdict.flipped,
                "failure": verdict.failure,
                "first_text": texts.get((place, FIRST)),
                "swapped_text": texts.get((place, SWAPPED)),
            }
        )
    return rows
