"""The command `agreement`: the judge of the section `compare`, held against human labels."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import yaml

from alpagasus_ray.command_flags import JUDGE_FLAGS, Flags, add_settings
from alpagasus_ray.commands import Context
from alpagasus_ray.compare.out_folder import named_folder
from alpagasus_ray.errors import UserError

SECTION = "agreement"


def add_agreement_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add("agreement", agree, "how far a pairwise judge agrees with people's labels")
    flags: Flags = {
        "--labels": ("labels", str, "answers in pairs with people's labels: a file, a URI or a hub data set"),
        "--columns": (
            "columns",
            _mapping,
            "yours: '{question: Q, answer_a: A, answer_b: B, labels: [L, M]}'",
        ),
        "--limit": ("limit", int, "use only the first so many rows"),
    }
    add_settings(command, SECTION, flags)
    add_settings(command, "compare", JUDGE_FLAGS)
    command.add_argument("--out", help="where the figures go (RUN_DIR/agreement/LABELS--MODEL)")


def agree(context: Context) -> None:
    """Commit a judge's agreement with people, and show it."""
    # Imported here: --help and a wrong flag need not wait for it.
    from alpagasus_ray.compare.judging_the_judge import judge_the_judge
    from alpagasus_ray.ray_session import RaySession

    recipe, run, out = context.recipe, context.run, context.args.out
    if recipe.agreement.labels is None:
        raise UserError("no human labels: give --labels FILE (or --set agreement.labels=FILE)")
    folder = run.agreement(recipe.agreement.labels, recipe.compare.model)
    ledger = recipe.ledger or run.ledger
    if out is not None:
        run, folder = named_folder(out)
    with (
        nullcontext() if out is not None else run.locked(),
        RaySession(context.logs, context.recipe.wait_for_nodes_s) as session,
    ):
        table = judge_the_judge(run, folder, recipe, ledger, session, context.console)
    context.console.result(f"{table}\n\n{out or run.shown(folder)}/agreement.json")


def _mapping(text: str) -> Any:
    """Return a YAML value; the recipe says whether it is what is wanted."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a YAML value") from error
