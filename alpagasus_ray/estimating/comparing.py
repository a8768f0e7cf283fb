"""What comparing the recipe's pairs would ask, and what a stronger judge is asked once more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from alpagasus_ray.compare.asking import rubric_of
from alpagasus_ray.corpus.testset_files import load_own_testsets
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.estimating.forecasts import NOBODY_ASKED, Forecast, Workload, forecast
from alpagasus_ray.estimating.prompt_tokens import ROUGH_ANSWERS, SampledSum, assumed_reply
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.recipe import CompareSettings, Recipe

COMPARING_REPLY_TOKENS = 190
"""Assumed of a reply: 520 recorded pairwise reviews of gpt-3.5-turbo-16k have 189 on average
(AlpaGasus2-QLoRA)."""
ASSUMED_FLIPS = 0.40
"""Share of the prompts on which the two orders name different winners. Of the 260 prompts of those reviews
109 ended in a draw, 105 of them as flips. A judge that looks less at the slot flips less."""


def comparing(recipe: Recipe, answer_tokens: float) -> list[Forecast]:
    """Return the forecast for the recipe's pairs, and behind it that for the judge of the flips.

    Empty where there are no pairs or no test set of one's own is named. There are no answers yet: each is
    taken to have `answer_tokens`, and the longest to fill generate.max_new_tokens. Replies that are asked for
    once more (compare.ask_again) are not counted. Raises UserError for test sets or a tokenizer that cannot
    be read.
    """
    settings = recipe.compare
    pairs = len(settings.pairs_of(list(recipe.arms)))
    prompts = _prompts(recipe) if pairs else []
    if not prompts:
        return []
    if settings.import_reviews:
        return [forecast("compare", settings, NOBODY_ASKED, recipe.prices)]
    work = _workload(recipe, settings, prompts, pairs, answer_tokens)
    stages = [forecast("compare", settings, work, recipe.prices)]
    if settings.escalate is not None:
        stronger = settings.model_copy(update={"model": settings.escalate})
        work = _workload(recipe, stronger, prompts, pairs, answer_tokens, ASSUMED_FLIPS)
        stages.append(forecast("escalate", stronger, work, recipe.prices))
    return stages


def _prompts(recipe: Recipe) -> list[Prompt]:
    wanted = recipe.compare.testsets
    testsets = load_own_testsets(recipe.generate)
    return [prompt for one in testsets if not wanted or one.name in wanted for prompt in one.prompts]


def _workload(
    recipe: Recipe,
    settings: CompareSettings,
    prompts: Sequence[Prompt],
    pairs: int,
    answer_tokens: float,
    flips: float | None = None,
) -> Workload:
    """Return what a judge is asked; `flips`: about this share of the prompts, at most about all of them."""
    counter = token_counter(settings.model, settings.tokenizer)
    without_answers, rubric = SampledSum(), rubric_of(settings)
    for prompt in prompts:
        row = {"question": prompt.question, "answer_1": "", "answer_2": ""}
        without_answers.add_prompt(request_of(row, rubric, settings), counter)
    max_judged = pairs * len(prompts)
    judged = max_judged if flips is None else round(flips * max_judged)
    longest = recipe.generate.max_new_tokens
    reply_tokens, by = assumed_reply(COMPARING_REPLY_TOKENS, settings)
    question = without_answers.tokens / len(prompts)
    return Workload(
        calls=2 * judged,  # both orders
        calls_in_ledger=None,
        prompt_tokens=2 * judged * (question + 2 * min(answer_tokens, longest)),
        max_prompt_tokens=2 * max_judged * (question + 2 * longest),
        prompt_tokens_by=ROUGH_ANSWERS,
        reply_tokens=reply_tokens,
        reply_tokens_by=by,
        calls_by="" if flips is None else f"{100 * flips:.0f} % of {max_judged:,} verdicts assumed to flip",
        max_calls=2 * max_judged,
    )
