"""Answers without a model: those of the originals' answer files become an arm's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.answers import Answer, answers_to_jsonl
from alpagasus_ray.corpus.ingest import describe_failures
from alpagasus_ray.corpus.original_answers import UNKNOWN, ModelAnswers, answers_of_model, paths_by_testset
from alpagasus_ray.corpus.testset_files import content_hashes, load_testsets_named
from alpagasus_ray.corpus.testsets import TestSet
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_section import checked_name
from alpagasus_ray.text_files import read_text


def import_answers(
    run: RunDirectory, recipe: Recipe, files: Sequence[str], model: str, arm: str, console: Console
) -> Manifest:
    """Commit RUN/answers/<arm>/ from a model's answers in such files; return its manifest.

    A file is about the set that its name tells (`koala_seed_0.json`) or that is put before it
    (`koala=FILE`). Raises UserError where a file or its set is not there, where the file asks something
    else than its set, and where the arm has answers that were generated: those are not thrown away.
    """
    _check_arm(run, arm)
    paths = paths_by_testset(files)
    testsets = load_testsets_named(run, recipe.generate, paths)
    texts = {name: read_text(path) for name, path in paths.items()}
    # All is read before an old artifact is cleared away.
    found = {
        name: answers_of_model(text, str(paths[name]), testsets[name], model) for name, text in texts.items()
    }
    settings = {
        "imported_answers": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())
        },
        "model": model,
        "testsets": content_hashes(list(testsets.values())),
    }

    def write() -> Made:
        for name, answers in found.items():
            lines = answers_to_jsonl(_answers(testsets[name], answers, model))
            run.write_text(f"{run.answers(arm)}/{name}.jsonl", lines)
        return _made(found, paths, model)

    manifest, _ = run.make(run.answers(arm), "generate", settings, {}, write)
    _tell(manifest, paths, arm, console)
    return manifest


def _check_arm(run: RunDirectory, arm: str) -> None:
    try:
        checked_name(arm)
    except ValueError as error:
        raise UserError(f"--arm: {error}") from error
    there = run.manifest(run.answers(arm))
    if there is not None and "imported_from" not in there.details:
        raise UserError(f"the arm {arm} has answers of its own in {run.uri}: import under another --arm")


def _answers(testset: TestSet, answers: ModelAnswers, model: str) -> list[Answer]:
    return [
        Answer(prompt.id, model, prompt.question, prompt.category, answers.texts[prompt.id], UNKNOWN)
        for prompt in testset.prompts
        if prompt.id in answers.texts
    ]


def _made(found: Mapping[str, ModelAnswers], paths: Mapping[str, Path], model: str) -> Made:
    counts = {name: len(answers.texts) for name, answers in found.items()}
    failures: Counter[str] = Counter()
    for answers in found.values():
        failures += answers.failures
    return Made(
        counts={**counts, "answers": sum(counts.values())},
        failures=failures,
        details={
            "finish_reasons": {UNKNOWN: sum(counts.values())},
            "imported_from": {name: path.name for name, path in paths.items()},
            "model": model,
            "prompts_cut_off": sum(answers.num_echoes for answers in found.values()),
        },
    )


def _tell(manifest: Manifest, paths: Mapping[str, Path], arm: str, console: Console) -> None:
    names = ", ".join(path.name for path in paths.values())
    model, cut = manifest.details["model"], manifest.details["prompts_cut_off"]
    console.say(
        f"answers: {manifest.counts['answers']:,} of {model} are now {arm}'s, from {names}"
        + (f"; without one: {describe_failures(manifest.failures)}" if manifest.failures else "")
        + (f"; {cut:,} began with the whole prompt, which was cut off" if cut else "")
    )
