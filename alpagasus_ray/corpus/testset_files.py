"""The test sets that a recipe names: files, the paper's by name, and the toy world's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.published_sets import PUBLISHED, read_published
from alpagasus_ray.corpus.testsets import TestSet, check_names, read_testset
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import settings_hash
from alpagasus_ray.recipe import TOYWORLD, GenerateSettings

NO_TESTSETS = (
    f"no test sets: give --testsets NAME_OR_FILE,... (or --set generate.testsets=[...]); "
    f"the names are {', '.join(PUBLISHED)}"
)


def load_testsets(run: RunDirectory, settings: GenerateSettings) -> list[TestSet]:
    """Return the recipe's test sets, the toy world's where it is named.

    Raises UserError where there are none, where one is not there or cannot be read, or two have one name.
    """
    testsets = _load_all(run, settings)
    if not testsets:
        raise UserError(NO_TESTSETS)
    return testsets


def load_own_testsets(settings: GenerateSettings) -> list[TestSet]:
    """Return the recipe's test sets without the toy world's, which may not be made yet."""
    testsets = [_load(name, settings) for name in settings.testsets if name != TOYWORLD]
    check_names(testsets)
    return testsets


def load_testsets_named(
    run: RunDirectory, settings: GenerateSettings, names: Iterable[str]
) -> dict[str, TestSet]:
    """Return the sets of these names: the recipe's own, else the paper's; raises UserError for another."""
    known = {testset.name: testset for testset in _load_all(run, settings)}
    for name in names:
        if name not in known and name in PUBLISHED:
            known[name] = read_published(PUBLISHED[name], settings.testsets_folder)
        elif name not in known:
            there = f" (named are {', '.join(sorted(known))})" if known else ""
            raise UserError(f"there is no test set {name}{there}: give its file with --testsets FILE,...")
    return {name: known[name] for name in names}


def content_hashes(testsets: Sequence[TestSet]) -> dict[str, str]:
    """Return what names the content of each test set in a manifest."""
    return {
        testset.name: settings_hash(
            {"prompts": [[p.id, p.instruction, p.input, p.category] for p in testset.prompts]}
        )
        for testset in testsets
    }


def _load_all(run: RunDirectory, settings: GenerateSettings) -> list[TestSet]:
    testsets: list[TestSet] = []
    for name in settings.testsets:
        if name == TOYWORLD:
            folder = f"{run.toyworld}/testsets"
            run.require(run.toyworld, "demo")
            testsets += [read_testset(run.child_uri(f"{folder}/{file}")) for file in run.list_files(folder)]
        else:
            testsets.append(_load(name, settings))
    check_names(testsets)
    return testsets


def _load(name: str, settings: GenerateSettings) -> TestSet:
    if name in PUBLISHED:
        return read_published(PUBLISHED[name], settings.testsets_folder)
    if "://" not in name and not os.path.exists(name):
        where = "" if os.path.isabs(name) else f" in {os.getcwd()}"
        known = ", ".join(PUBLISHED)
        raise UserError(f"{name}: no such file{where}, and none of the paper's test sets ({known})")
    return read_testset(name, dict(settings.prompt_columns.items()))
