"""The commands `testsets` and `answers`: files that come in from others and go out to them. No Ray."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alpagasus_ray.cache import cache_folder
from alpagasus_ray.command_flags import add_settings, arm_name, arm_names, split
from alpagasus_ray.commands import Context
from alpagasus_ray.corpus.fetching import fetch
from alpagasus_ray.corpus.published_sets import CACHED, PUBLISHED, PublishedSet, find_published
from alpagasus_ray.corpus.testsets import read_testset
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.generate.exporting import export_answers
from alpagasus_ray.generate.importing import import_answers

Add = Callable[..., argparse.ArgumentParser]
"""What adds a command: its name, what it does, its help, and the parsers it belongs to."""
SECTION = "generate"


def add_file_commands(subparsers: Any, add: Add) -> None:
    """Add both commands."""
    testsets = _group(subparsers, "testsets", "the paper's test sets: which are here, and fetching them")
    names = ", ".join(PUBLISHED)
    listed = add("list", list_testsets, "which of the paper's test sets are on this machine", testsets)
    fetched = add("fetch", fetch_testsets, "fetch the paper's test sets, once", testsets)
    fetched.add_argument("names", nargs="*", metavar="NAME", help=f"{names}; none: all four")
    fetched.add_argument("--base-url", help="a mirror: https://HOST/FOLDER with NAME_test_set.jsonl in it")
    for command in (listed, fetched):
        add_settings(
            command, SECTION, {"--folder": ("testsets_folder", str, "a folder instead of the cache")}
        )

    answers = _group(subparsers, "answers", "answers in the originals' form, SET_seed_0.json")
    taken = add("import", take_answers, "take a model's answers over as an arm's own", answers)
    taken.add_argument("files", nargs="+", metavar="[SET=]FILE", help="one a test set")
    taken.add_argument("--model", required=True, help="the key of the model's answers in the files")
    taken.add_argument("--arm", type=arm_name, required=True, help="the arm whose answers they become")
    given = add("export", give_answers, "write the arms' answers, a key for each arm", answers)
    given.add_argument("--folder", required=True, help="where the files go")
    given.add_argument("--arms", type=arm_names, help="arms, separated by commas (all that have answers)")
    for command in (taken, given):
        add_settings(command, SECTION, {"--testsets": ("testsets", split, "the sets' files or names")})


def list_testsets(context: Context) -> None:
    """Show each published set: where it is, or the command that fetches it."""
    folder = context.recipe.generate.testsets_folder
    context.console.result("\n".join(_listed(published, folder) for published in PUBLISHED.values()))


def fetch_testsets(context: Context) -> None:
    """Fetch published sets into the recipe's folder for them, or else into the cache."""
    names = context.args.names or list(PUBLISHED)
    for name in names:
        if name not in PUBLISHED:
            raise UserError(f"there is no published test set {name}.{nearest(name, PUBLISHED)}")
    folder = Path(context.recipe.generate.testsets_folder or cache_folder(CACHED))
    for name in names:
        fetched = fetch(PUBLISHED[name], folder, context.args.base_url)
        how = "fetched" if fetched else "there already, nothing fetched"
        context.console.result(f"{name}: {PUBLISHED[name].num_prompts:,} prompts in {folder} ({how})")


def take_answers(context: Context) -> None:
    """Commit an arm's answers from the originals' files."""
    args = context.args
    with context.run.locked():
        import_answers(context.run, context.recipe, args.files, args.model, args.arm, context.console)
    context.console.result(context.run.shown(context.run.answers(args.arm)))


def give_answers(context: Context) -> None:
    """Write the arms' answers in the originals' form."""
    args = context.args
    files = export_answers(context.run, context.recipe, args.folder, args.arms, context.console)
    context.console.result("\n".join(map(str, files)))


def _group(subparsers: Any, name: str, help: str) -> Any:
    group = subparsers.add_parser(name, help=help, description=help)
    return group.add_subparsers(dest="action", required=True, metavar="ACTION")


def _listed(published: PublishedSet, folder: str | None) -> str:
    path = find_published(published, folder)
    if path is None:
        return f"{published.name}: not here: `alpagasus testsets fetch {published.name}` gets it"
    try:
        prompts = read_testset(path).prompts
    except UserError as error:
        return f"{published.name}: cannot be read: {error}"
    as_published = "as published" if published.is_content(prompts) else "not what was published"
    return f"{published.name}: {len(prompts):,} prompts, {as_published}, {path}"
