"""Answers for others: the arms' answers in the originals' form, one file a test set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alpagasus_ray.artifacts import MANIFEST, RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.answers import Answer, read_committed_answers
from alpagasus_ray.corpus.original_answers import answer_file
from alpagasus_ray.corpus.testset_files import load_testsets_named
from alpagasus_ray.corpus.testsets import TestSet
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.storage import Storage
from alpagasus_ray.text_files import read_text


def export_answers(
    run: RunDirectory, recipe: Recipe, folder: str, arms: Sequence[str] | None, console: Console
) -> list[Path]:
    """Write `<set>_seed_0.json` for each test set that the arms answered; return the files.

    `arms` None: all that have answers; each arm's name is the key of its answers. Raises UserError where
    an arm has none, where a set is not there or has changed since, and where another file is in the place
    of one of these; then nothing is written.
    """
    answers = _answers_by_arm(run, arms)
    names = sorted({testset for of_arm in answers.values() for testset in of_arm})
    testsets = load_testsets_named(run, recipe.generate, names)
    storage = Storage(folder)
    texts: dict[str, str] = {}
    for name, testset in testsets.items():
        of_set = {arm: _texts(testset, of_arm.get(name, {}), arm) for arm, of_arm in answers.items()}
        file = f"{name}_seed_0.json"
        texts[file] = answer_file(testset, of_set)
        path = Path(storage.path(file))
        if path.exists() and read_text(path) != texts[file]:
            raise UserError(f"{path} is there and is another file: remove it, or name another --folder")
        _tell(testset, of_set, console)
    for file, text in texts.items():
        storage.write_text(file, text)
    return [Path(storage.path(file)) for file in texts]


def _answers_by_arm(run: RunDirectory, arms: Sequence[str] | None) -> dict[str, dict[str, dict[str, Answer]]]:
    ending = f"/{MANIFEST}"
    there = [name.removesuffix(ending) for name in run.list_files("answers") if name.endswith(ending)]
    if not there:
        raise UserError(f"{run.uri}: no arm has answers there yet: run `alpagasus generate --arm NAME` first")
    for arm in arms or ():
        run.require(run.answers(arm), f"generate --arm {arm}")
    return {arm: read_committed_answers(run, arm) for arm in arms or there}


def _texts(testset: TestSet, answers: dict[str, Answer], arm: str) -> dict[str, str]:
    """Return an arm's texts by prompt id; raises UserError where they answer other prompts."""
    asked = {prompt.id: prompt.question for prompt in testset.prompts}
    for id, answer in answers.items():
        if asked.get(id) != answer.prompt:
            raise UserError(
                f"{arm} answered another {testset.name} than the one that is here (prompt {id}): name its "
                "file with --testsets"
            )
    return {id: answer.text for id, answer in answers.items()}


def _tell(testset: TestSet, texts: dict[str, dict[str, str]], console: Console) -> None:
    total = len(testset.prompts)
    missing = [f"{arm} {total - len(ids):,}" for arm, ids in texts.items() if len(ids) < total]
    if missing:
        told = ", ".join(missing)
        console.say(f"answers: {testset.name}: prompts without an answer, and so without its key: {told}")
