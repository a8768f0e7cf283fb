"""The stages in order, each on the committed artifacts of those before it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.comparing import compare_answers, compare_arms
from alpagasus_ray.compare.rating import rank_compared
from alpagasus_ray.compare.sources import read_answers
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.committing import commit_corpus, write_toyworld
from alpagasus_ray.corpus.testset_files import NO_TESTSETS, load_own_testsets
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.grade.grading import grade
from alpagasus_ray.grade.importing import import_reviews, reviews_file
from alpagasus_ray.judge.jobs import Spending
from alpagasus_ray.judge.providers import judge_key
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.mt_bench.running import plan_mt_bench
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import TOYWORLD, Recipe
from alpagasus_ray.report.reporting import summary_table, write_report
from alpagasus_ray.select.selecting import arm_settings, check_rubric, select
from alpagasus_ray.train.tracking import check_trackers
from alpagasus_ray.train.training import base_model, train
from alpagasus_ray.trained_models import TrainedModels


class Pipeline:
    """One run: its directory, its recipe, and what its stages share."""

    def __init__(self, run: RunDirectory, recipe: Recipe, session: RaySession, console: Console) -> None:
        self.run, self.recipe, self.session, self.console = run, recipe, session, console
        self._graded, self._compared = Spending(), Spending()
        self.models = TrainedModels(run, recipe, session, console)

    def run_all(self) -> Manifest:
        """Do every stage of the recipe that is not done; return the report's manifest."""
        self.check()
        self.corpus()
        if self.recipe.wants_grades:
            self.grade()
        else:
            self.console.say("grade: left out, since no arm goes by scores (`alpagasus grade` does it)")
        for arm in self.arms_in_order():
            self.select(arm)
        for arm in self.arms_in_order():
            self.train(arm)
        self.models.ask(list(self.recipe.arms))
        self.compare_all()
        return self.report()

    def plan(self) -> list[str]:
        """Return the steps of run_all in words, in order."""
        arms = self.arms_in_order()
        pairs = self.pairs
        grading, comparing = self.recipe.grade, self.recipe.compare
        rubrics = load_rubrics(grading) if self.recipe.wants_grades else []
        imported = f", imported from {grading.import_reviews}" if grading.import_reviews else ""
        return [
            f"corpus    {self.recipe.corpus.data}",
            *(f"grade     {rubric.name} by {grading.judge} {grading.model}{imported}" for rubric in rubrics),
            *(f"select    {arm}: {self.recipe.arms[arm].selector}" for arm in arms),
            *(
                f"train     {arm}: {self.recipe.train.model}, {self.recipe.train.workers} workers"
                for arm in arms
            ),
            f"serve     {', '.join(arms)}",
            *(f"generate  {arm}: {', '.join(self.recipe.generate.testsets)}" for arm in arms),
            *(
                f"benchmark {arm}: {', '.join(tasks)}"
                for arm in arms
                if (tasks := self.recipe.benchmark.tasks)
            ),
            *(f"compare   {a} against {b} by {comparing.judge} {comparing.model}" for a, b in pairs),
            *plan_mt_bench(self.recipe),
            f"report    {self.run.shown(self.run.report)}/index.html",
        ]

    def check(self) -> None:
        """Raise UserError for whatever would stop a later stage, before the first one starts."""
        if not self.recipe.arms:
            raise UserError("the recipe has no arms: add some, such as --set arms.full.selector=full")
        self._check_pairs()
        for arm in self.arms_in_order():
            check_rubric(self.run, self.recipe, arm)
        if self.recipe.corpus.data is None and self.run.manifest(self.run.triplets) is None:
            raise UserError("no data: give --data FILE (or --set corpus.data=FILE)")
        if self.recipe.wants_grades:
            self._check_grading()
        check_trackers(self.recipe.train.trackers)
        if self.recipe.train.model != TOYWORLD:
            base_model(self.run, self.recipe)
        if not self.recipe.generate.testsets:
            raise UserError(NO_TESTSETS)
        load_own_testsets(self.recipe.generate)
        self.models.check()

    def _check_grading(self) -> None:
        load_rubrics(self.recipe.grade)
        if self.recipe.grade.import_reviews is None:
            judge_key(self.recipe.grade)
        else:
            reviews_file(self.recipe.grade)

    def _check_pairs(self) -> None:
        for pair in self.pairs:
            for arm in pair:
                if arm not in self.recipe.arms:
                    raise UserError(
                        f"compare names an arm {arm} that the recipe has not."
                        f"{nearest(arm, self.recipe.arms)} (compare.pairs=[]: nothing is compared)"
                    )
        if self.pairs and not self.recipe.compare.import_reviews:
            judge_key(self.recipe.compare)

    def arms_in_order(self) -> list[str]:
        """Return the arms, each after those that it is made from; raises UserError for a circle."""
        ordered: list[str] = []

        def add(arm: str, waiting: tuple[str, ...]) -> None:
            if arm in waiting:
                raise UserError(f"arms are made from each other: {' -> '.join((*waiting, arm))}")
            for other in arm_settings(self.recipe, arm).made_from:
                add(other, (*waiting, arm))
            if arm not in ordered:
                ordered.append(arm)

        for arm in self.recipe.arms:
            add(arm, ())
        return ordered

    def corpus(self) -> Manifest:
        """Commit the triplets; for the demo, the toy world first."""
        if self.recipe.toyworld is not None:
            self._toyworld()
        return commit_corpus(self.run, self.recipe.corpus, self.console)

    def grade(self) -> None:
        """Commit the reviews, asked for or imported, one rubric after the other."""
        rubrics = load_rubrics(self.recipe.grade)
        if self.recipe.grade.import_reviews is not None:
            if len(rubrics) > 1:
                raise UserError("--import-reviews takes reviews for one rubric: give one --rubric")
            import_reviews(self.run, self.recipe, rubrics[0], self.console)
            return
        for rubric in rubrics:
            grade(self.run, self.recipe, rubric, self.session, self.console, self._graded)

    def select(self, arm: str) -> Manifest:
        """Commit an arm's rows, and the corpus first where nothing has done so: all rows need no grade."""
        if self.recipe.corpus.data is not None and self.run.manifest(self.run.triplets) is None:
            self.corpus()
        return select(self.run, self.recipe, arm, self.console)

    def train(self, arm: str) -> Manifest:
        """Commit an arm's model."""
        return train(self.run, self.recipe, arm, self.session, self.console)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of arms that are compared."""
        return self.recipe.compare.pairs_of(list(self.recipe.arms))

    def compare_all(self) -> None:
        """Commit the verdicts on every pair, and where there are several the arms' ranking."""
        compare_arms(self.run, self.recipe, self.pairs, self.session, self.console, self._compared)
        rank_compared(self.run, self.recipe.compare, self.pairs, self.console)

    def compare_answers(self, a: str, b: str, out: str, files: Sequence[str] = ()) -> Manifest:
        """Commit the verdicts on any two models' answers to the folder `out`; see compare.sources."""
        recipe = self.recipe.model_copy(update={"ledger": self.recipe.ledger or self.run.ledger})
        imported = recipe.compare.import_reviews
        answers = (read_answers(a, files, imported), read_answers(b, files, imported))
        return compare_answers(out, recipe, (a, b), answers, self.session, self.console)

    def summary(self, *parts: str) -> str:
        """Return the run's figures as tables for a terminal; `parts`: of these alone (reporting.PARTS)."""
        return summary_table(self.run, parts)

    def report(self) -> Manifest:
        """Commit the report."""
        return write_report(self.run, self.recipe)

    def _toyworld(self) -> Manifest:
        settings = self.recipe.toyworld
        assert settings is not None

        def make() -> Made:
            from alpagasus_ray.train.tiny_model import build_tiny_model

            texts = write_toyworld(self.run, settings)
            with tempfile.TemporaryDirectory() as folder:
                build_tiny_model(Path(folder), texts, seed=settings.seed)
                self.run.put_folder(Path(folder), f"{self.run.toyworld}/base-model")
            return Made(counts={"rows": settings.num_rows})

        manifest, _ = self.run.make(self.run.toyworld, "toyworld", settings.model_dump(), {}, make)
        return manifest
