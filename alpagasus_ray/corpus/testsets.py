"""Test sets: prompts that the arms answer. One reader for the paper's four shapes and our own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import last_part
from alpagasus_ray.text_files import read_text

PROMPT_KEYS = ("instruction", "Instruction", "prompt", "text", "question")
CATEGORY_KEYS = ("category", "Skill", "skill")
POOLED = "pooled"
MAX_SHOWN = 40
"""Characters of what is no prompt."""
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


def read_testset(path: str | Path, columns: Mapping[str, str] | None = None) -> TestSet:
    """Return the test set in a JSONL file; its name is the file's, without `_test_set` and the ending.

    Known shapes: Koala (`prompt`), Self-Instruct (`instruction`, `instances[0].input`), Vicuna (`text`),
    WizardLM (`Instruction`, `Skill`), and `instruction` with an optional `input`; others by `columns`, the
    file's names for id, instruction, input or category. A row without an id gets its number. Raises
    UserError that names the file and the line, or a column that no row has.
    """
    prompts = parse_prompts(read_text(path), str(path), columns)
    return TestSet(last_part(str(path)).removesuffix(".jsonl").removesuffix("_test_set"), prompts)


def parse_prompts(text: str, source: str, columns: Mapping[str, str] | None = None) -> tuple[Prompt, ...]:
    """Return the prompts in a JSONL text, as read_testset does; `source` is what its errors name."""
    columns = columns or {}
    rows = json_lines(text, source)
    if not rows:
        raise UserError(f"{source}: the test set holds no prompts")
    _check_columns(rows, columns, source)
    prompts = tuple(parse_prompt(row, number, f"{source}, line {number}", columns) for number, row in rows)
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        twice = next(id for id, count in Counter(ids).items() if count > 1)
        raise UserError(f"{source}: the id {twice} stands there more than once")
    return prompts


def check_names(testsets: Sequence[TestSet]) -> None:
    """Raise UserError where two test sets have one name, or one has the name of all of them together."""
    names = [testset.name for testset in testsets]
    if POOLED in names:
        raise UserError(f"a test set cannot be called {POOLED}: the results of all of them together are")
    if len(set(names)) != len(names):
        raise UserError(f"two test sets have one name: {', '.join(sorted(names))}")


def parse_prompt(
    row: Mapping[str, Any], number: int, where: str, columns: Mapping[str, str] | None = None
) -> Prompt:
    """Return the prompt in a row; `number` is its id where it has none. Raises UserError that says where."""
    columns = columns or {}
    keys = (columns["instruction"],) if "instruction" in columns else PROMPT_KEYS
    key = next((key for key in keys if isinstance(row.get(key), str) and row[key].strip()), None)
    if key is None:
        if empty := [key for key in keys if isinstance(row.get(key), str)]:
            raise UserError(f"{where}: the prompt is empty ({empty[0]})")
        if other := [key for key in keys if row.get(key) is not None]:
            found = json.dumps(row[other[0]])[:MAX_SHOWN]
            raise UserError(f"{where}: the prompt is no text ({other[0]} is {found})")
        hint = "" if columns else "; yours can be named: generate.prompt_columns={instruction: NAME}"
        raise UserError(f"{where}: no prompt under any of {', '.join(keys)}{hint}")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: text is not valid Unicode") from error
    return Prompt(
        _id(row, number, where, columns), row[key], _input(row, where, columns), _category(row, columns)
    )


def json_lines(text: str, source: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the objects of the lines with their lines' numbers; raises UserError that names the line."""
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply, or a number too long")
            raise UserError(f"{source}, line {number}: not JSON ({reason})") from error
        if not isinstance(row, dict):
            raise UserError(f"{source}, line {number}: an object is expected")
        rows.append((number, row))
    return rows


def _check_columns(
    rows: Sequence[tuple[int, Mapping[str, Any]]], columns: Mapping[str, str], source: str
) -> None:
    there = {column for _, row in rows for column in row}
    if missing := sorted(set(columns.values()) - there):
        found = ", ".join(sorted(there)[:10]) or "none"
        raise UserError(
            f"{source}: no row has the column {' or '.join(missing)} that generate.prompt_columns names "
            f"(columns found: {found})"
        )


def _id(row: Mapping[str, Any], number: int, where: str, columns: Mapping[str, str]) -> str:
    keys = (columns["id"],) if "id" in columns else ID_KEYS
    id = next((row[key] for key in keys if isinstance(row.get(key), str | int)), None)
    if id is None and "id" in columns:
        raise UserError(f"{where}: no id under {columns['id']}")
    return str(number if id is None else id)


def _input(row: Mapping[str, Any], where: str, columns: Mapping[str, str]) -> str:
    if "input" in columns:
        value = row.get(columns["input"])
        if not isinstance(value, str | None):
            raise UserError(f"{where}: {columns['input']} is not a string")
        return value or ""
    instances = row.get("instances")
    holder = instances[0] if isinstance(instances, list) and instances else row
    value = holder.get("input") if isinstance(holder, Mapping) else None
    return value if isinstance(value, str) else ""


def _category(row: Mapping[str, Any], columns: Mapping[str, str]) -> str | None:
    keys = (columns["category"],) if "category" in columns else CATEGORY_KEYS
    return next((row[key] for key in keys if isinstance(row.get(key), str)), None)
