"""Test sets: prompts that the arms answer. One reader for the paper's four shapes and our own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.text_files import read_text

PROMPT_KEYS = ("instruction", "Instruction", "prompt", "text", "question")
CATEGORY_KEYS = ("category", "Skill", "skill")
POOLED = "pooled"
ID_KEYS = ("id", "question_id", "idx")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question of a test set."""

    id: str
    instruction: str
    input: str = ""
    category: str | None = None

    @property
    def question(self) -> str:
        """The text that the pairwise judge is shown (the paper's `{instruction} Input: {input}`)."""
        return f"{self.instruction} Input: {self.input}" if self.input else self.instruction


@dataclass(frozen=True)
class TestSet:
    """A named list of prompts."""

    __test__ = False  # not a test class, whatever pytest thinks of the name
    name: str
    prompts: tuple[Prompt, ...]


def read_testset(path: str | Path) -> TestSet:
    """Return the test set in a JSONL file; its name is the file's, without `_test_set` and the ending.

    Known shapes: Koala (`prompt`), Self-Instruct (`instruction`, `instances[0].input`), Vicuna (`text`),
    WizardLM (`Instruction`, `Skill`), and `instruction` with an optional `input`. A row without an id
    gets its number. Raises UserError that names the file and the line.
    """
    prompts = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: an object is expected")
        prompts.append(_prompt(row, number, f"{path}, line {number}"))
    if not prompts:
        raise UserError(f"{path}: the test set holds no prompts")
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        twice = next(id for id in ids if ids.count(id) > 1)
        raise UserError(f"{path}: the id {twice} stands there more than once")
    return TestSet(Path(path).name.removesuffix(".jsonl").removesuffix("_test_set"), tuple(prompts))


def read_testsets(paths: tuple[str, ...]) -> list[TestSet]:
    """Return the test sets of these files; raises UserError where two have one name."""
    testsets = [read_testset(path) for path in paths]
    names = [testset.name for testset in testsets]
    if POOLED in names:
        raise UserError(f"a test set cannot be called {POOLED}: the results of all of them together are")
    if len(set(names)) != len(names):
        raise UserError(f"two test sets have one name: {', '.join(sorted(names))}")
    return testsets


def _prompt(row: Mapping[str, Any], number: int, where: str) -> Prompt:
    key = next((key for key in PROMPT_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    if key is None:
        raise UserError(f"{where}: no prompt under any of {', '.join(PROMPT_KEYS)}")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: text is not valid Unicode") from error
    category = next((row[key] for key in CATEGORY_KEYS if isinstance(row.get(key), str)), None)
    id = next((row[key] for key in ID_KEYS if isinstance(row.get(key), str | int)), number)
    return Prompt(str(id), row[key], _input(row), category)


def _input(row: Mapping[str, Any]) -> str:
    instances = row.get("instances")
    holder = instances[0] if isinstance(instances, list) and instances else row
    value = holder.get("input") if isinstance(holder, Mapping) else None
    return value if isinstance(value, str) else ""
