"""The artifacts that a run's recipe asks for, in the order of the pipeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.judge.mt_bench_prompts import SINGLE
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.mt_bench.bench import pairs_of
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_benchmark_tasks import is_task_file


@dataclass(frozen=True)
class Step:
    """One artifact to be."""

    stage: str
    what: str
    """Whose: an arm, a pair, a rubric and its judge."""
    folder: str


def steps_of(run: RunDirectory, recipe: Recipe) -> list[Step]:
    """Return the steps; raises UserError for a recipe that names what is not there (a rubric's file)."""
    return [
        *([Step("toyworld", "", run.toyworld)] if recipe.toyworld is not None else []),
        Step("corpus", "", run.triplets),
        *_grading(run, recipe),
        *(Step("select", arm, run.arm(arm)) for arm in recipe.arms),
        *(Step("train", arm, run.model(arm)) for arm in recipe.arms),
        *(Step("generate", arm, run.answers(arm)) for arm in recipe.arms),
        *_benchmarks(run, recipe),
        *_comparing(run, recipe),
        *_mt_bench(run, recipe),
        Step("report", "", run.report),
    ]


def _grading(run: RunDirectory, recipe: Recipe) -> Iterator[Step]:
    judge = recipe.grade.model
    if not (recipe.wants_grades or run.exists(run.all_reviews)):
        return
    for rubric in load_rubrics(recipe.grade):
        folder = run.reviews(rubric.name, judge)
        if recipe.wants_grades or run.exists(folder):
            yield Step("grade", f"{rubric.name} by {judge}", folder)


def _benchmarks(run: RunDirectory, recipe: Recipe) -> Iterator[Step]:
    for arm in recipe.arms:
        for task in recipe.benchmark.tasks:
            name = Path(task).stem if is_task_file(task) else task
            yield Step("benchmark", f"{arm} {name}", run.benchmark(arm, name))


def _comparing(run: RunDirectory, recipe: Recipe) -> Iterator[Step]:
    judge = recipe.compare.model
    for a, b in recipe.compare.pairs_of(list(recipe.arms)):
        if {a, b} <= recipe.arms.keys():  # the pairs are named before the arms, in a run of single commands
            yield Step("compare", f"{a} against {b}", run.verdicts(a, b, judge))


def _mt_bench(run: RunDirectory, recipe: Recipe) -> Iterator[Step]:
    settings = recipe.mt_bench
    if settings is None:
        return
    models = tuple(dict.fromkeys((*(settings.arms or recipe.arms), *settings.answer_files)))
    for model in models:
        yield Step("mt-bench", f"answers of {model}", run.mt_bench(model))
    if SINGLE in settings.mode:
        for model in models:
            yield Step("mt-bench", f"scores of {model}", run.mt_bench_scores(model, settings.model))
    for a, b in pairs_of(settings, models):
        folder = run.mt_bench_verdicts(a, b, settings.model)
        yield Step("mt-bench", f"{a} against {b}", folder)
