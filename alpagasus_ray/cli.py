"""The command line: one command per stage, flags that are short names for the recipe's settings; no logic."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from alpagasus_ray import __version__, commands
from alpagasus_ray.agreement_commands import add_agreement_command
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.benchmark_commands import add_benchmark
from alpagasus_ray.command_flags import JUDGE_FLAGS, Flags, add_settings, arm_name, split
from alpagasus_ray.compare_commands import add_compare_flags, compare
from alpagasus_ray.console import Console, plain_console, take_terminal
from alpagasus_ray.errors import StoppedEarly, UserError
from alpagasus_ray.event_log import recording
from alpagasus_ray.file_commands import add_file_commands
from alpagasus_ray.mt_bench_commands import add_mt_bench_command
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_files import load_recipe, recipe_names
from alpagasus_ray.storage import is_of_an_object_store
from alpagasus_ray.submit.submission import check_outlives_job
from alpagasus_ray.submit_commands import add_submit_commands
from alpagasus_ray.watch_commands import add_watch_commands

DEFAULT_RUN_DIR = "runs/default"

READ_ONLY = ("estimate", "ledger", "testsets", "answers export", "status", "dashboard")
"""Commands that leave no trace in the run directory; as `train --dry-run` and `serve --write-config`."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are UserErrors: one line, like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError instead of printing the usage."""
        raise UserError(f"{message} (see {self.prog} --help)")


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="alpagasus",
        description="Grade instruction data with an LLM judge, fine-tune on the best rows, serve, compare.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, act: Callable[..., None], help: str, to: Any = subparsers) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = to.add_parser(name, help=help, description=help)
        command.set_defaults(act=act)
        command.add_argument("--run-dir", default=None, help=f"where artifacts are kept ({DEFAULT_RUN_DIR})")
        command.add_argument("--recipe", help=f"a YAML file, or one of: {', '.join(recipe_names())}")
        command.add_argument(
            "--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="any setting"
        )
        return command

    add("demo", commands.demo, "the whole experiment on a toy world: no network, no API key")
    run = add("run", commands.run, "every stage of a recipe that is not done yet")
    run.add_argument("--dry-run", action="store_true", help="show the stages and the recipe, do nothing")
    estimate = add("estimate", commands.estimate, "what judges will cost and take; asks and writes nothing")
    _add_grade(estimate)
    estimate.add_argument("--json", action="store_true", help="as JSON")
    _add_grade(add("grade", commands.grade, "score every row with an LLM judge"))
    ledger = add("ledger", commands.ledger, "the paid replies: what is there, whether it can be read")
    ledger.add_argument("action", choices=["show", "verify", "compact"])
    ledger.add_argument("--ledger", help="its folder or URI (the one beside the run directory)")
    _add_select(add("select", commands.select, "choose an arm's rows"))
    _add_train(add("train", commands.train, "fine-tune a base model on an arm"))
    _add_serve(add("serve", commands.serve, "serve models behind one OpenAI-compatible endpoint"))
    _add_generate(add("generate", commands.generate, "answer the test sets with an arm's model"))
    add_benchmark(add)
    add_compare_flags(add("compare", compare, "judge two arms' answers in both orders"))
    add("report", commands.report, "write the page that shows what happened")
    add_agreement_command(add)
    add_file_commands(subparsers, add)
    add_mt_bench_command(add)
    add_submit_commands(subparsers)
    add_watch_commands(add)
    return parser


def _add_grade(command: argparse.ArgumentParser) -> None:
    data: Flags = {
        "--data": ("data", str, "a file, a URI, or a Hugging Face data set such as tatsu-lab/alpaca"),
        "--format": ("format", str, "auto, alpaca, dolly, chat, csv or parquet"),
        "--limit": ("limit", int, "grade only the first so many rows"),
    }
    add_settings(command, "corpus", data)
    flags: Flags = {
        "--rubric": ("rubric", split, "accuracy, helpfulness or a FILE.yaml; several: separated by commas"),
        "--import-reviews": ("import_reviews", str, "a file of recorded reviews: nothing is asked"),
    }
    add_settings(command, "grade", {**JUDGE_FLAGS, **flags})


def _add_select(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arm", type=arm_name, required=True, help="the arm's name")
    data: Flags = {"--data": ("data", str, "the rows, where none of them is to be graded first")}
    add_settings(command, "corpus", data)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--full", action="store_true", help="every row")
    how.add_argument("--threshold", type=float, help="rows with this score or more")
    how.add_argument("--keep-share", type=float, help="the best rows, such a share of the scored (0.1775)")
    how.add_argument("--top-k", type=int, help="so many of the best rows")
    how.add_argument("--random", type=int, help="so many rows at random")
    how.add_argument("--random-as", metavar="ARM", help="as many rows at random as another arm has")
    command.add_argument("--within", metavar="ARM", help="with --random: draw from another arm's rows")
    command.add_argument("--rubric", help="whose scores count, where a run has several rubrics")
    command.add_argument("--seed", type=int, help="of the draw, and of ties (0)")


def _add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arm", type=arm_name, required=True, help="the arm's name")
    flags: Flags = {
        "--model": ("model", str, "the base model: a Hugging Face folder or hub id"),
        "--strategy": ("strategy", str, "fsdp, deepspeed or single"),
        "--workers": ("workers", int, "training processes"),
        "--epochs": ("epochs", int, "passes over the arm"),
        "--learning-rate": ("learning_rate", float, "at its peak"),
    }
    add_settings(command, "train", flags)
    command.add_argument("--dry-run", action="store_true", help="show steps, memory and cost; do nothing")
    command.add_argument("--gpu", help="with --dry-run: plan for h100, h200, a100-80 (the default), l4, ...")
    command.add_argument("--gpu-usd-per-hour", type=float, help="with --dry-run: what such a GPU costs you")
    command.add_argument("--json", action="store_true", help="with --dry-run: as JSON")


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument("models", nargs="+", metavar="MODEL_DIR", help="a Hugging Face folder")
    flags: Flags = {
        "--host": ("host", str, "loopback by default"),
        "--port": ("port", int, "0: any free one"),
        "--api-key-env": ("api_key_env", str, "the environment variable that holds the endpoint's key"),
        "--base-model": ("base_model", str, "where the adapters' base model lies, if it has moved"),
    }
    add_settings(command, "serve", flags)
    command.add_argument(
        "--write-config", metavar="FILE", help="serve nothing; write what `serve deploy` takes"
    )
    command.add_argument("--rayservice", metavar="IMAGE", help="with --write-config: for KubeRay, too")


def _add_generate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arm", type=arm_name, required=True, help="the arm's name")
    flags: Flags = {
        "--testsets": ("testsets", split, "JSONL files or names, such as koala,vicuna,my_prompts.jsonl"),
        "--base-url": ("base_url", str, "an endpoint that serves the arm already"),
    }
    add_settings(command, "generate", flags)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 2 for the user to mend, 1 a defect, 130 stopped)."""
    console = plain_console()
    try:
        args = build_parser().parse_args(argv)
        # Both, and by hand: a shell starts background jobs with Ctrl-C ignored, and Python keeps it so.
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)
        if (on_cluster := getattr(args, "on_cluster", None)) is not None:
            return int(on_cluster(args, build_parser().parse_args, _named_recipe, console))
        run = RunDirectory(args.run_dir or ("runs/demo" if args.command == "demo" else DEFAULT_RUN_DIR))
        run.check_readable()
        recipe = _recipe(args, run)
        if is_read_only(args):
            args.act(commands.Context(args, run, recipe, console, logs=None))
            sys.stdout.flush()
            return 0
        if args.command != "serve":  # which keeps nothing
            _check_outlives_job(args, run, recipe)
        logs = Path(run.path("logs")) if run.is_local else Path(tempfile.mkdtemp(prefix="alpagasus-logs-"))
        console = _take_terminal(logs / f"{args.command}.log", args.run_dir)
        with recording(run, args.command, console):
            args.act(commands.Context(args, run, recipe, console, logs))
    except BrokenPipeError:
        # Who read our words has seen enough (`| head`). Python would say so once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except StoppedEarly as stopped:
        console.say(str(stopped))
    except UserError as error:
        console.say(f"alpagasus: {error}")
        return 2
    except KeyboardInterrupt:
        console.say(f"alpagasus: stopped{_way_on(sys.argv[1:] if argv is None else argv)}")
        return 130
    except Exception as error:  # the last stop: a defect is shown whole, on the user's own stderr
        if is_of_an_object_store(error):
            words = " ".join(str(error).split())
            console.say(f"alpagasus: {words}; what was finished is kept, the same command goes on from there")
            return 2
        console.say(traceback.format_exc())
        return 1
    return 0


def _check_outlives_job(args: argparse.Namespace, run: RunDirectory, recipe: Recipe) -> None:
    check_outlives_job("--run-dir", run.uri)
    for what, folder in (("--out", getattr(args, "out", None)), ("ledger", recipe.ledger)):
        if folder is not None:
            check_outlives_job(what, folder)


def _way_on(argv: Sequence[str]) -> str:
    has_results = argv[:1] != ["serve"]
    return "; what was finished is kept, the same command goes on from there" if has_results else ""


def is_read_only(args: argparse.Namespace) -> bool:
    """Return whether a command leaves no trace in the run directory."""
    whole = f"{args.command} {getattr(args, 'action', '')}"
    only_plans = args.dry_run if args.command == "train" else vars(args).get("write_config") is not None
    return args.command in READ_ONLY or whole in READ_ONLY or only_plans


def _take_terminal(log_file: Path, run_dir: str | None) -> Console:
    try:
        return take_terminal(log_file)
    except OSError as error:
        raise UserError(f"--run-dir {run_dir}: {error.strerror} ({error.filename})") from error


def _recipe(args: argparse.Namespace, run: RunDirectory) -> Recipe:
    """Return the recipe that was named, or else the run's own, with the flags in it."""
    flags = {key: value for key, value in vars(args).items() if "." in key}
    # A limit, a format and names of columns belong to the data that they were given with.
    fresh = ["corpus.limit=null", "corpus.format=auto", "corpus.columns={}"]
    stale = fresh if flags.get("corpus.data") else []
    if flags.get("generate.testsets"):
        stale.append("generate.prompt_columns={}")
    name = args.recipe or ("demo" if args.command == "demo" else None)
    # A file of reviews that the run keeps belongs to the judge that it was given with: another is asked.
    if name is None and (flags.get("grade.model") or flags.get("grade.judge")):
        stale.append("grade.import_reviews=null")
    if name is None and (flags.get("compare.model") or flags.get("compare.judge")):
        stale.append("compare.import_reviews=[]")
    overrides = [*stale, *args.overrides]
    stored = run.read_text(run.recipe) if name is None and run.exists(run.recipe) else None
    return load_recipe(name, overrides, flags, arms=commands.arm_flags(args), stored=stored)


def _named_recipe(args: argparse.Namespace) -> Recipe:
    return _recipe(args, RunDirectory(DEFAULT_RUN_DIR))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
