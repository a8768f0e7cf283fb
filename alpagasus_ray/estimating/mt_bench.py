"""What MT-Bench would ask its judge: every turn singly, or in pairs and both orders. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.mt_bench import NUM_TURNS, Conversation, parse_answers
from alpagasus_ray.estimating.forecasts import Forecast, Workload, forecast
from alpagasus_ray.estimating.prompt_tokens import ROUGH_ANSWERS, SampledSum, assumed_reply
from alpagasus_ray.judge.mt_bench_prompts import MT_BENCH_RUBRICS, PAIRWISE, SINGLE
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.mt_bench.bench import Bench, load_bench
from alpagasus_ray.mt_bench.rows import pair_rows, single_rows
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.text_files import read_text

MT_BENCH_REPLY_TOKENS = 130
"""Assumed of a reply. Of some twenty judgments of gpt-4 in files like FastChat's, single ones and in pairs,
most have 80 to 200, and those that work a sum out anew more than 300."""
IN_WORDS = {SINGLE: "single", PAIRWISE: "in pairs"}


def mt_bench(run: RunDirectory, recipe: Recipe, answer_tokens: float) -> Forecast | None:
    """Return the forecast for the recipe's MT-Bench, or None where it has no such section.

    Answers that a file holds are read. An arm's are not there yet: each is taken to have `answer_tokens`, and
    the longest to fill mt_bench.max_new_tokens. Raises UserError for whatever could not be asked or judged.
    """
    settings = recipe.mt_bench
    if settings is None:
        return None
    bench = load_bench(run, recipe)
    counter = token_counter(settings.model, settings.tokenizer)
    known, calls, num_assumed = SampledSum(), Counter[str](), 0
    for mode, row, assumed in _rows(bench):
        known.add_prompt(request_of(row, MT_BENCH_RUBRICS[mode], settings), counter)
        calls[mode] += 1
        num_assumed += assumed
    reply_tokens, by = assumed_reply(MT_BENCH_REPLY_TOKENS, settings)
    longest = settings.max_new_tokens
    work = Workload(
        calls=calls.total(),
        calls_in_ledger=None,
        prompt_tokens=known.tokens + num_assumed * min(answer_tokens, longest),
        max_prompt_tokens=known.tokens + num_assumed * longest,
        prompt_tokens_by=ROUGH_ANSWERS if num_assumed else counter.method,
        reply_tokens=reply_tokens,
        reply_tokens_by=by,
        calls_by=", ".join(f"{count:,} {IN_WORDS[mode]}" for mode, count in calls.items()),
    )
    return forecast("mt_bench", settings, work, recipe.prices)


def _rows(bench: Bench) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yield each mode and row that the judge would see, and how many answers in it are not there yet."""
    answers = {model: _answers(bench, model) for model in bench.models}
    asked = set(bench.models) - set(bench.settings.answer_files)
    if SINGLE in bench.settings.mode:
        for model in bench.models:
            for row in single_rows(bench.questions, bench.references, answers[model]):
                yield SINGLE, row, row["turn"] * (model in asked)
    for a, b in bench.pairs:
        for row in pair_rows(bench.questions, bench.references, answers[a], answers[b]):
            yield PAIRWISE, row, row["turn"] * len({a, b} & asked)


def _answers(bench: Bench, model: str) -> dict[str, Conversation]:
    """Return a model's answers by question, those that are not there yet without a text."""
    path = bench.settings.answer_files.get(model)
    if path is not None:
        return parse_answers(read_text(path), path, bench.questions)
    return {one.key: Conversation(one.id, model, ("",) * NUM_TURNS) for one in bench.questions}
