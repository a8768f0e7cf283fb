"""MT-Bench from the models to the figures, each part on the committed artifacts of the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from alpagasus_ray.answering import check_token_parity, check_window
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.generate.roads import EndpointRoad
from alpagasus_ray.judge.jobs import Spending, judge_job
from alpagasus_ray.judge.mt_bench_prompts import MT_BENCH_RUBRICS, SINGLE
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.mt_bench.answers import ArmAnswers, commit_answer_file
from alpagasus_ray.mt_bench.bench import Bench, load_bench
from alpagasus_ray.mt_bench.scores import score_model
from alpagasus_ray.mt_bench.verdicts import compare_models
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_files import require_key
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.model_folder import ServedModel

Serving = Callable[[Sequence[ServedModel]], AbstractContextManager[Endpoint]]
"""Serves models for as long as its block lasts."""


def check_mt_bench(run: RunDirectory, recipe: Recipe) -> None:
    """Raise UserError for whatever would stop what the recipe has MT-Bench do, before anything is done."""
    if recipe.mt_bench is not None:
        _checked(run, recipe)


def _checked(run: RunDirectory, recipe: Recipe) -> Bench:
    bench = load_bench(run, recipe)
    judge_key(bench.settings)
    rubrics = MT_BENCH_RUBRICS[SINGLE]
    judge_job(recipe, bench.settings, rubrics, rubrics.reader, recipe.ledger or run.ledger)
    require_key(recipe.generate.api_key_env)
    return bench


def plan_mt_bench(recipe: Recipe) -> list[str]:
    """Return in words what the recipe has MT-Bench do; nothing where it has no such section."""
    settings = recipe.mt_bench
    if settings is None:
        return []
    models = ", ".join([*(settings.arms or recipe.arms), *settings.answer_files])
    return [f"mt-bench  {models}: {' and '.join(settings.mode)} by {settings.judge} {settings.model}"]


def arms_to_ask(run: RunDirectory, recipe: Recipe) -> list[str]:
    """Return the arms whose models have to be served for answers that are missing."""
    if recipe.mt_bench is None or recipe.generate.base_url is not None:
        return []
    return [one.arm for one in _missing(_checked(run, recipe))]


def run_mt_bench(
    run: RunDirectory, recipe: Recipe, serving: Serving, session: RaySession, console: Console
) -> None:
    """Commit answers, scores and verdicts of all models, serving those whose answers are missing."""
    bench = _checked(run, recipe)
    missing = _missing(bench)
    for note in bench.notes():
        console.say(f"mt-bench: {note}")
    for name in bench.settings.answer_files:
        commit_answer_file(bench, name, console)
    _answer(bench, missing, serving, console)
    spending = Spending()
    if SINGLE in bench.settings.mode:
        for name in bench.models:
            score_model(bench, name, session, console, spending)
    for a, b in bench.pairs:
        compare_models(bench, a, b, session, console, spending)


def _missing(bench: Bench) -> list[ArmAnswers]:
    asked = [ArmAnswers(bench, name) for name in bench.models if name not in bench.settings.answer_files]
    return [one for one in asked if not one.committed()]


def _answer(bench: Bench, missing: Sequence[ArmAnswers], serving: Serving, console: Console) -> None:
    settings = bench.recipe.generate
    if not missing:
        return
    if settings.base_url is not None:
        names = ", ".join(one.arm for one in missing)
        console.say(f"mt-bench: asking {settings.base_url} for {names} (generate.base_url)")
        road = EndpointRoad(settings.base_url, require_key(settings.api_key_env), settings)
        for one in missing:
            one.make(road, console)
        return
    folders = {one.arm: bench.run.child_uri(bench.run.model(one.arm)) for one in missing}
    models = [ServedModel(*one) for one in folders.items()]
    for model in models:
        check_window(model, bench.settings.max_new_tokens, bench.recipe.serve, "mt_bench.max_new_tokens")
    with serving(models) as endpoint:
        for one in missing:
            check_token_parity(endpoint, one, folders[one.arm])
            road = EndpointRoad(endpoint.base_url, endpoint.api_key, settings, is_ours=True)
            one.make(road, console)
