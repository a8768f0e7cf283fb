"""What MT-Bench's parts share: the questions, the references, who is asked and who is compared. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.mt_bench import (
    OTHER_TEMPERATURE,
    TEMPERATURES,
    Conversation,
    Question,
    content_hash,
    read_questions,
    read_references,
)
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.judge.mt_bench_prompts import PAIRWISE
from alpagasus_ray.recipe import MtBenchSettings, Recipe
from alpagasus_ray.recipe_benchmarks import NO_REFERENCES


@dataclass(frozen=True)
class Bench:
    """One run's MT-Bench, read and found to be sound."""

    run: RunDirectory
    recipe: Recipe
    settings: MtBenchSettings
    questions: tuple[Question, ...]
    references: dict[str, Conversation]
    """Of the questions on math, reasoning and coding, by their keys; empty where they are judged without."""
    models: tuple[str, ...]
    """Arms that are asked, and models whose answers are in files."""
    pairs: tuple[tuple[str, str], ...]

    @property
    def content(self) -> str:
        """A hash of what a judge is shown beside the answers."""
        return content_hash(self.questions, self.references)

    def notes(self) -> list[str]:
        """Return what a user should know before anything is asked, a line each."""
        unknown = Counter(one.category for one in self.questions if one.category not in TEMPERATURES)
        said = [
            f"the category {category} is not FastChat's: its {count:,} questions are answered at temperature "
            f"{OTHER_TEMPERATURE}"
            for category, count in unknown.items()
        ]
        if without := [
            one for one in self.questions if one.wants_reference and one.key not in self.references
        ]:
            said.append(
                f"{len(without):,} questions on math, reasoning and coding are judged without a reference "
                "answer (mt_bench.references is none): their scores are no published ones' like"
            )
        return said


def load_bench(run: RunDirectory, recipe: Recipe) -> Bench:
    """Read the files that the recipe names; raises UserError for whatever could not be asked or judged."""
    settings = recipe.mt_bench
    if settings is None or settings.questions is None:
        raise UserError("no MT-Bench questions: give --questions FILE (or --set mt_bench.questions=FILE)")
    questions = read_questions(settings.questions)
    models = _models(run, recipe, settings)
    return Bench(
        run=run,
        recipe=recipe,
        settings=settings,
        questions=questions,
        references=_references(settings, questions),
        models=models,
        pairs=pairs_of(settings, models),
    )


def _references(settings: MtBenchSettings, questions: tuple[Question, ...]) -> dict[str, Conversation]:
    wanting = [question for question in questions if question.wants_reference]
    if settings.references == NO_REFERENCES or (settings.references is None and not wanting):
        return {}
    if settings.references is None:
        raise UserError(
            f"{len(wanting):,} questions are on math, reasoning or coding, and would be judged without a "
            "reference answer: give --references FILE, or --references none if that is meant"
        )
    found = read_references(settings.references, questions)
    if missing := [question for question in wanting if question.key not in found]:
        raise UserError(
            f"{settings.references}: no reference answer to question {missing[0].id} ({missing[0].category})"
            + (f" and {len(missing) - 1:,} more" if len(missing) > 1 else "")
            + ": they would be judged without (--references none if that is meant)"
        )
    return {question.key: found[question.key] for question in wanting}


def _models(run: RunDirectory, recipe: Recipe, settings: MtBenchSettings) -> tuple[str, ...]:
    named = settings.arms or tuple(recipe.arms)
    models = tuple(dict.fromkeys((*named, *settings.answer_files)))
    if not models:
        raise UserError("no arms: say with --arms A,B whose models MT-Bench asks")
    if recipe.generate.base_url is None:
        for arm in settings.arms:
            # One that is not trained yet may be in the recipe; one that is nowhere is a slip.
            known = {*recipe.arms, *settings.answer_files}
            if arm not in known and run.manifest(run.model(arm)) is None:
                hint = nearest(arm, known) if known else ""
                raise UserError(f"mt_bench.arms: there is no arm {arm}, and no model of it.{hint}")
    return models


def pairs_of(settings: MtBenchSettings, models: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return who is compared with whom; raises UserError for a name that is no model's."""
    if PAIRWISE not in settings.mode:
        return ()
    named = [settings.baseline] if settings.baseline else [name for pair in settings.pairs for name in pair]
    for name in named:
        if name not in models:
            raise UserError(f"mt_bench compares {name}, which nobody asks.{nearest(name, models)}")
    if same := [a for a, b in settings.pairs if a == b]:
        raise UserError(f"mt_bench.pairs: {same[0]} is to be compared with itself")
    if settings.baseline is not None:
        pairs = tuple((model, settings.baseline) for model in models if model != settings.baseline)
    else:
        pairs = settings.pairs or tuple(combinations(models, 2))
    if not pairs:
        raise UserError(f"mode pairwise wants two models: there is {models[0]} alone (--arms A,B)")
    return pairs
