"""What comparing the recipe's pairs would ask. Pure."""

from __future__ import annotations

from alpagasus_ray.corpus.testset_files import load_own_testsets
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.estimating.forecasts import Forecast, Workload, forecast
from alpagasus_ray.estimating.prompt_tokens import SampledSum, assumed_reply
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS
from alpagasus_ray.llm.chat import Request
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.recipe import JudgeSettings, Recipe

COMPARING_REPLY_TOKENS = 190
"""Assumed of a reply: 520 recorded pairwise reviews of gpt-3.5-turbo-16k have 189 on average
(AlpaGasus2-QLoRA)."""


def comparing(recipe: Recipe, answer_tokens: float) -> Forecast | None:
    """Return the forecast for the recipe's pairs, or None where no test set of its own is named.

    There are no answers yet: each is taken to have `answer_tokens`, and the longest to fill
    generate.max_new_tokens. Raises UserError for test sets or a tokenizer that cannot be read.
    """
    settings, pairs = recipe.compare, len(recipe.compare.pairs_of(list(recipe.arms)))
    if not pairs:
        return None
    prompts = [prompt for testset in load_own_testsets(recipe.generate) for prompt in testset.prompts]
    if not prompts:
        return None
    counter = token_counter(settings.model, settings.tokenizer)
    without_answers = SampledSum()
    for prompt in prompts:
        without_answers.add_prompt(_pairwise_request(prompt, settings), counter)
    calls_a_prompt = 2 * pairs  # both orders
    calls = calls_a_prompt * len(prompts)
    questions = calls_a_prompt * without_answers.tokens
    reply_tokens, by = assumed_reply(COMPARING_REPLY_TOKENS, settings)
    work = Workload(
        calls=calls,
        calls_in_ledger=None,
        prompt_tokens=questions + 2 * calls * answer_tokens,
        max_prompt_tokens=questions + 2 * calls * recipe.generate.max_new_tokens,
        prompt_tokens_by="rough: answers as long as the data's outputs",
        reply_tokens=reply_tokens,
        reply_tokens_by=by,
    )
    return forecast("compare", settings, work, recipe.prices)


def _pairwise_request(prompt: Prompt, settings: JudgeSettings) -> Request:
    row = {"question": prompt.question, "answer_1": "", "answer_2": ""}
    return request_of(row, PAIRWISE_RUBRICS["pairwise"], settings)
