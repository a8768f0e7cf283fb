"""The command `compare`: a recipe's pairs of arms, or any two models' answers."""

from __future__ import annotations

import argparse

from alpagasus_ray.command_flags import JUDGE_FLAGS, Flags, add_settings, add_switch, split
from alpagasus_ray.commands import Context, open_pipeline
from alpagasus_ray.errors import UserError

SECTION = "compare"


def add_compare_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add_settings(command, SECTION, JUDGE_FLAGS)
    command.add_argument("--a", metavar="ANSWERS", help="a folder of answers, or a model in the files given")
    command.add_argument(
        "--b", metavar="ANSWERS", help="whom to compare with; without both: the recipe's pairs"
    )
    command.add_argument("--out", metavar="FOLDER", help="where the verdicts on --a and --b go")
    command.add_argument(
        "--answers",
        type=split,
        metavar="[SET=]FILE,...",
        help="the originals' answer files (SET_seed_0.json), in which --a and --b are names of models",
    )
    flags: Flags = {
        "--baseline": ("baseline", str, "the ARM that all others are compared with"),
        "--testsets": ("testsets", split, "only these test sets, separated by commas"),
        "--import-reviews": (
            "import_reviews",
            split,
            "recorded reviews (FIRST-SECOND-SET.json, separated by commas): nothing is asked",
        ),
        "--escalate": ("escalate", str, "a stronger judge for the prompts on which the orders disagree"),
        "--early-stop": (
            "early_stop",
            float,
            "stop once the difference is clear at this level, such as 0.05",
        ),
    }
    add_settings(command, SECTION, flags)
    add_switch(command, SECTION, "--all-pairs", "all_pairs", "compare every two arms")


def compare(context: Context) -> None:
    """Commit the verdicts on the recipe's pairs, or on any two models' answers."""
    args = context.args
    if (args.a, args.b, args.out) == (None, None, None):
        if args.answers:
            raise UserError("--answers goes with --a and --b (two models in the files) and --out")
        with open_pipeline(context) as pipeline:
            pipeline.compare_all()
            context.console.result(pipeline.summary())
        return
    if None in (args.a, args.b, args.out):
        raise UserError("--a, --b and --out go together: two models' answers, and where the verdicts go")
    with open_pipeline(context, keep_recipe=False) as pipeline:
        pipeline.compare_answers(args.a, args.b, args.out, args.answers or ())
        context.console.result(f"{args.out}/results.json")
