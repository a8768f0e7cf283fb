"""What a judge of answers in pairs is asked."""

from __future__ import annotations

from dataclasses import replace

from alpagasus_ray.judge.jobs import Spending, judge_job
from alpagasus_ray.judge.rows_judge import RowsJudge
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS, Rubric
from alpagasus_ray.recipe import CompareSettings, Recipe


def rubric_of(settings: CompareSettings) -> Rubric:
    """Return what a judge of pairs is asked."""
    return replace(PAIRWISE_RUBRICS["pairwise"], delimit=settings.delimit)


def pair_judge(recipe: Recipe, settings: CompareSettings, ledger: str, spending: Spending) -> RowsJudge:
    """Return a judge who says which of two answers is better; `settings` name him: not only the recipe's own.

    Raises UserError where dollars are limited and his price is not known.
    """
    rubric = rubric_of(settings)
    job = judge_job(recipe, settings, rubric, settings.reader, ledger)
    return RowsJudge(replace(job, again=rubric.again if settings.ask_again else ""), spending)
