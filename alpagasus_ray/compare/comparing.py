"""Stage: two models' answers are judged in both orders, and the verdicts counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.asking import rubric_of
from alpagasus_ray.compare.judgments import AskedJudge, Collected, Judged, Source, judge_together
from alpagasus_ray.compare.lines import empty_answers, slot_follower, summary_line
from alpagasus_ray.compare.out_folder import named_folder, refuse_others_files
from alpagasus_ray.compare.pairing import Answers, Key, Texts, pair, verdict_of, verdict_rows
from alpagasus_ray.compare.results import results_of
from alpagasus_ray.compare.reviews_files import RecordedJudge
from alpagasus_ray.compare.verdict_rows import verdict_row
from alpagasus_ray.compare.verdicts import Verdict
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.answers import read_committed_answers
from alpagasus_ray.corpus.testsets import POOLED
from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.jobs import Spending
from alpagasus_ray.llm.asking import failure_kind, num_passing
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings, Recipe
from alpagasus_ray.recipe_comparing import Pair
from alpagasus_ray.schemas import VERDICTS

STAGE, RESULTS = "compare", "results.json"
Verdicts = dict[str, list[tuple[Verdict, Texts]]]


@dataclass(frozen=True)
class Compared:
    """Two models and their answers."""

    names: tuple[str, str]
    folder: str
    """Where the verdicts go, within a run."""
    answers: tuple[Answers, Answers]
    inputs: Mapping[str, Manifest]
    """The artifacts that the answers are from, where they are from a run."""

    @property
    def content(self) -> dict[str, str]:
        """What shapes the verdicts where no manifest says it: the answers themselves."""
        if self.inputs:
            return {}
        return {"answers": settings_hash({"pair": [_plain(one) for one in self.answers]})}


def compare_arms(
    run: RunDirectory,
    recipe: Recipe,
    pairs: Sequence[Pair],
    session: RaySession,
    console: Console,
    spending: Spending,
) -> list[Manifest]:
    """Commit RUN/verdicts/<a>--vs--<b>--<judge>/ of each pair of arms; return their manifests.

    All pairs that are not there yet are judged in one go, but where each may stop early.
    """
    works = [_Work(run, recipe, _arms(run, recipe, a, b), console) for a, b in pairs]
    missing = [work for work in works if not work.committed()]
    judged: dict[tuple[str, str], Judged] = {}
    if len(missing) > 1 and recipe.compare.early_stop is None and not recipe.compare.import_reviews:
        pairings = {work.compared.names: work.pairing for work in missing}
        judged = judge_together(recipe, pairings, recipe.ledger or run.ledger, session, console, spending)
    return [work.make(session, spending, judged.get(work.compared.names)) for work in works]


def compare_answers(
    out: str,
    recipe: Recipe,
    names: tuple[str, str],
    answers: tuple[Answers, Answers],
    session: RaySession,
    console: Console,
) -> Manifest:
    """Commit the verdicts on any two models' answers to the folder `out`; return its manifest."""
    run, name = named_folder(out)
    if names[0] == names[1]:
        raise UserError(f"--a and --b are both {names[0]}: name two models")
    refuse_others_files(run, name, STAGE)
    return _Work(run, recipe, Compared(names, name, answers, {}), console).make(session, Spending())


def _arms(run: RunDirectory, recipe: Recipe, a: str, b: str) -> Compared:
    inputs = {run.answers(arm): run.require(run.answers(arm), f"generate --arm {arm}") for arm in (a, b)}
    answers = (read_committed_answers(run, a), read_committed_answers(run, b))
    return Compared((a, b), run.verdicts(a, b, recipe.compare.model), answers, inputs)


class _Work:
    """One comparison: what it hangs on, and how it is done."""

    def __init__(self, run: RunDirectory, recipe: Recipe, compared: Compared, console: Console) -> None:
        self.run, self.recipe, self.compared, self.console = run, recipe, compared, console
        settings = recipe.compare
        if settings.import_reviews and "model" not in settings.model_fields_set:
            raise UserError("recorded reviews do not say whose they are: name their judge with --model")
        self.pairing = pair(*compared.answers, settings.testsets, compared.names)
        self.recorded = RecordedJudge(self.pairing, settings) if settings.import_reviews else None
        if self.recorded is not None:
            shaping: dict[str, Any] = {"model": settings.model, "imported_reviews": self.recorded.content}
        else:
            shaping = {**settings.shapes_result(), "rubric": rubric_of(settings).shapes_result()}
        self.hashed = {**shaping, **settings.shapes_verdicts(), **compared.content, "names": compared.names}

    def committed(self) -> bool:
        """Return whether the verdicts are there."""
        inputs = self.compared.inputs
        return self.run.committed(self.compared.folder, STAGE, self.hashed, inputs) is not None

    def make(self, session: RaySession, spending: Spending, judged: Judged | None = None) -> Manifest:
        """Commit the verdicts; `judged` are the judgments that there are already."""
        run, compared, console = self.run, self.compared, self.console
        ledger = self.recipe.ledger or run.ledger
        source: Source = self.recorded or AskedJudge(self.recipe, self.pairing, ledger, spending, judged)
        what = f"compare {compared.names[0]}/{compared.names[1]}"

        def work() -> Made:
            for line in empty_answers(compared.names, compared.answers):
                console.say(line)
            collected = source.collect(what, session, console)
            return _judge(run, compared.folder, source, self.recipe.compare, compared.names, collected)

        manifest, worked = run.make(
            compared.folder, STAGE, self.hashed, compared.inputs, work, check=source.check
        )
        console.say(summary_line(compared.names, manifest, worked))
        for line in [*manifest.details.get("notes", []), *slot_follower(manifest)]:
            console.say(f"compare: {line}")
        return manifest


def _judge(
    run: RunDirectory,
    folder: str,
    source: Source,
    settings: CompareSettings,
    names: tuple[str, str],
    collected: Collected,
) -> Made:
    verdicts, judges = _verdicts(collected, settings)
    pairing = collected.pairing
    for testset, of_testset in verdicts.items():
        rows = [
            verdict_row(
                verdict,
                texts,
                pairing.lengths.get((testset, verdict.prompt_id)),
                judges[testset, verdict.prompt_id],
            )
            for verdict, texts in of_testset
        ]
        run.write_table(f"{folder}/{testset}.parquet", pa.Table.from_pylist(rows, schema=VERDICTS))
    plain = {testset: [verdict for verdict, _ in of_testset] for testset, of_testset in verdicts.items()}
    first = verdict_rows(pairing, collected.rows, settings.rule) if collected.escalated else {}
    own = {testset: [verdict for verdict, _ in rows] for testset, rows in first.items()}
    results = results_of(plain, pairing.lengths, settings, own)
    if collected.early_stop:
        results[POOLED]["early_stop"] = collected.early_stop
    run.write_text(f"{folder}/{RESULTS}", json.dumps(results, indent=2) + "\n")
    return _made(plain, results, collected, source, names, settings)


def _verdicts(collected: Collected, settings: CompareSettings) -> tuple[Verdicts, dict[Key, str]]:
    """Return the verdicts by test set and prompt id, and which judge each of them is from."""
    pairing = collected.pairing
    verdicts = verdict_rows(pairing, collected.rows, settings.rule)
    judges = dict.fromkeys(pairing.categories, settings.model)
    for (testset, prompt_id), rows in collected.escalated.items():
        second = verdict_of(pairing, (testset, prompt_id), rows, settings.rule)
        if second[0].outcome is None or settings.escalate is None:
            continue  # what the stronger judge did not settle stands as it was
        place = next(at for at, (one, _) in enumerate(verdicts[testset]) if one.prompt_id == prompt_id)
        verdicts[testset][place] = second
        judges[testset, prompt_id] = settings.escalate
    ordered = {
        testset: sorted(verdicts[testset], key=lambda one: one[0].prompt_id) for testset in sorted(verdicts)
    }
    return ordered, judges


def _made(
    verdicts: Mapping[str, Sequence[Verdict]],
    results: Mapping[str, Any],
    collected: Collected,
    source: Source,
    names: tuple[str, str],
    settings: CompareSettings,
) -> Made:
    flat = [verdict for of_testset in verdicts.values() for verdict in of_testset]
    failures = Counter(failure_kind(verdict.failure) for verdict in flat if verdict.failure)
    judged = [*collected.rows, *(row for rows in collected.escalated.values() for row in rows)]
    passing = num_passing(Counter(failure_kind(row["failure"]) for row in judged if row["failure"]))
    return Made(
        counts={
            "prompts": len(flat),
            "judgments": len(judged),
            "asked": source.num_asked,
            "escalated_prompts": len(collected.escalated),
            "left_out_prompts": collected.num_left_out,
        },
        failures=failures,
        cost_usd=source.cost_usd,
        details={
            "judge_model": settings.model,
            "passing_failures": passing,
            "a": names[0],
            "b": names[1],
            POOLED: results[POOLED],
            "prompt_tokens": sum(row["prompt_tokens"] for row in judged),
            "completion_tokens": sum(row["completion_tokens"] for row in judged),
            **collected.details,
        },
    )


def _plain(answers: Answers) -> Any:
    return {
        testset: {
            prompt_id: [answer.prompt, answer.text, answer.category]
            for prompt_id, answer in of_testset.items()
        }
        for testset, of_testset in answers.items()
    }
