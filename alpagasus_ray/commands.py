"""What each command does: the recipe is resolved, the pipeline does the work, the result is shown."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, duration
from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.serve.model_folder import models_named_by_folder
from alpagasus_ray.serve.serve_config import write_serve_config

if TYPE_CHECKING:
    from alpagasus_ray.pipeline import Pipeline


@dataclass(frozen=True)
class Context:
    """What every command is given."""

    args: argparse.Namespace
    run: RunDirectory
    recipe: Recipe
    console: Console
    logs: Path | None
    """None for a command that writes nothing."""


def arm_flags(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the arm that the flags of `select` stand for, by its name; empty where they name no rows."""
    if args.command != "select":
        return {}
    choices: list[tuple[bool, dict[str, Any]]] = [
        (args.full, {"selector": "full"}),
        (args.threshold is not None, {"selector": "threshold", "threshold": args.threshold}),
        (args.keep_share is not None, {"selector": "keep-share", "keep_share": args.keep_share}),
        (args.top_k is not None, {"selector": "top-k", "k": args.top_k}),
        (args.random is not None, {"selector": "random", "count": args.random}),
        (args.random_as is not None, {"selector": "random", "same_size_as": args.random_as}),
    ]
    chosen = [settings for given, settings in choices if given]
    further = {"seed": args.seed, "rubric": args.rubric, "within": args.within}
    flags = {
        **(chosen[0] if chosen else {}),
        **{k: value for k, value in further.items() if value is not None},
    }
    return {args.arm: flags} if flags else {}


def demo(context: Context) -> None:
    """Run the demo recipe."""
    _run_all(context)


def run(context: Context) -> None:
    """Run a recipe, or show what that would do."""
    if context.args.dry_run:
        with open_pipeline(context, keep_recipe=False) as pipeline:
            pipeline.check()
            context.console.result("\n".join([*pipeline.plan(), "", context.recipe.to_yaml()]))
        return
    _run_all(context)


def grade(context: Context) -> None:
    """Commit the corpus and its reviews, rubric by rubric."""
    settings = context.recipe.grade
    rubrics = load_rubrics(settings)  # a slip in a rubric's file is told before anything is done
    with open_pipeline(context) as pipeline:
        pipeline.corpus()
        pipeline.grade()
        for rubric in rubrics:
            context.console.result(context.run.shown(context.run.reviews(rubric.name, settings.model)))


def estimate(context: Context) -> None:
    """Show what the recipe's judges would cost and take: grading, comparing, MT-Bench."""
    # Imported here: --help and a wrong flag need not wait for it.
    from alpagasus_ray.estimating.estimate import estimate

    made = estimate(context.run, context.recipe)
    as_json = json.dumps(made.to_dict(), indent=2, ensure_ascii=False)
    context.console.result(as_json if context.args.json else made.to_text())


def ledger(context: Context) -> None:
    """Show, verify or compact the ledger of paid replies."""
    from alpagasus_ray.llm import ledger_report

    actions = {
        "show": ledger_report.show,
        "verify": ledger_report.verify,
        "compact": ledger_report.compact_all,
    }
    folder = context.args.ledger or context.recipe.ledger or context.run.ledger
    try:
        context.console.result(actions[context.args.action](folder))
    except OSError as error:
        raise UserError(f"the ledger {folder} cannot be read or written: {error}") from error


def select(context: Context) -> None:
    """Commit an arm's rows."""
    with open_pipeline(context) as pipeline:
        if getattr(context.args, "corpus.data") is not None:
            pipeline.corpus()
        pipeline.select(context.args.arm)
        context.console.result(context.run.shown(f"{context.run.arm(context.args.arm)}/train.json"))


def train(context: Context) -> None:
    """Commit an arm's model, or show what that would take."""
    if context.args.dry_run:
        _plan_training(context)
        return
    if context.args.json or (context.args.gpu, context.args.gpu_usd_per_hour) != (None, None):
        raise UserError("--gpu, --gpu-usd-per-hour and --json go with --dry-run")
    with open_pipeline(context) as pipeline:
        pipeline.train(context.args.arm)
        context.console.result(context.run.shown(context.run.model(context.args.arm)))


def _plan_training(context: Context) -> None:
    # Imported here: --help and a wrong flag need not wait for it.
    from alpagasus_ray.train.plan import DEFAULT_GPU, plan_training

    args = context.args
    made = plan_training(
        context.run, context.recipe, args.arm, args.gpu or DEFAULT_GPU, args.gpu_usd_per_hour
    )
    context.console.result(json.dumps(made.to_dict(), indent=2) if args.json else made.to_text())


def serve(context: Context) -> None:
    """Serve models until Ctrl-C, or write the files that a cluster serves them by."""
    args = context.args
    if args.write_config is not None:
        models = models_named_by_folder(args.models)
        files = write_serve_config(args.write_config, models, context.recipe.serve, args.rayservice)
        context.console.result("\n".join(map(str, files)))
        return
    if args.rayservice is not None:
        raise UserError("--rayservice goes with --write-config")

    def wait() -> None:
        while True:
            time.sleep(3600)

    with open_pipeline(context, keep_recipe=False) as pipeline:
        pipeline.models.serve(args.models, wait)


def generate(context: Context) -> None:
    """Commit an arm's answers."""
    with open_pipeline(context) as pipeline:
        pipeline.models.generate([context.args.arm])
        context.console.result(context.run.shown(context.run.answers(context.args.arm)))


def mt_bench(context: Context) -> None:
    """Commit answers to MT-Bench, scores and verdicts."""
    with open_pipeline(context) as pipeline:
        pipeline.models.mt_bench()
        context.console.result(pipeline.summary("mt-bench"))


def benchmark(context: Context) -> None:
    """Commit the arms' figures in the benchmarks."""
    if not context.recipe.benchmark.tasks:
        raise UserError("no benchmarks: give --tasks mmlu,arc,my_task.yaml (or --set benchmark.tasks=[...])")
    if not (arms := context.args.arms or list(context.recipe.arms)):
        raise UserError("no arms: give --arms A,B")
    with open_pipeline(context) as pipeline:
        pipeline.models.benchmark(arms)
        context.console.result(pipeline.summary("benchmarks"))
    _complain(pipeline.models.set_aside)


def report(context: Context) -> None:
    """Commit the report."""
    with open_pipeline(context) as pipeline:
        pipeline.report()
        context.console.result(context.run.shown(f"{context.run.report}/index.html"))


def _run_all(context: Context) -> None:
    started_s = time.monotonic()
    with open_pipeline(context) as pipeline:
        pipeline.run_all()
        context.console.result(pipeline.summary())
    took = duration(time.monotonic() - started_s)
    context.console.result(f"\nReport: {context.run.shown(context.run.report)}/index.html ({took})")
    _complain(pipeline.models.set_aside)


def _complain(set_aside: list[str]) -> None:
    """Raise UserError for benchmarks that could not be done, once all else is committed."""
    if set_aside:
        more = f", and {len(set_aside) - 1} more" if len(set_aside) > 1 else ""
        raise UserError(f"not done: benchmark {set_aside[0]}{more}. The same command tries again")


@contextmanager
def open_pipeline(context: Context, keep_recipe: bool = True) -> Iterator[Pipeline]:
    """Give the pipeline of the run, on a Ray that ends with the block, and keep the recipe in the run."""
    # Imported here: --help and a wrong flag need not wait for Ray.
    from alpagasus_ray.pipeline import Pipeline
    from alpagasus_ray.ray_session import RaySession

    run = context.run
    assert context.logs is not None
    if keep_recipe and not run.is_local:
        run.check()  # before anything is paid for that could not be kept
    with run.locked() if keep_recipe else nullcontext():
        before = run.read_text(run.recipe) if run.exists(run.recipe) else None
        if keep_recipe:
            run.write_text(run.recipe, context.recipe.to_yaml())
        try:
            with RaySession(context.logs, context.recipe.wait_for_nodes_s) as session:
                yield Pipeline(run, context.recipe, session, context.console)
        except UserError:
            # A slip, such as a file that is not there, must not be the next command's default.
            if keep_recipe and before is not None:
                run.write_text(run.recipe, before)
            elif keep_recipe:
                run.remove(run.recipe)
            raise
