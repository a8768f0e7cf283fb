"""The rubrics that a recipe grades by: published ones by name, and the user's own in YAML files.

A file is read once, where the command is given; from then on the Rubric itself goes on, to Ray's workers
and into the hash by which reviews are compared. So a file may move, and an edited one grades anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import regex
from pydantic import ValidationError

from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.judge.rubrics import RUBRICS, Rubric, placeholders_in
from alpagasus_ray.recipe import GradeSettings, Name, Section
from alpagasus_ray.recipe_files import read_yaml
from alpagasus_ray.text_files import read_text

PLACEHOLDERS = ("instruction", "input", "output", "category")
"""What of a row a template may ask for. Only the output has to be there: it is what is graded."""
FILE_READERS = ("robust", "original")
"""Readers that a file may name; in place of a name it may hold a pattern."""
PATTERN = "pattern"


class RubricFile(Section):
    """What stands in a user's rubric file."""

    name: Name
    system: str = ""
    template: str
    scale: tuple[float, float]
    """Lowest and highest score, both included."""
    reader: str | dict[str, Any]
    """robust, original, or a pattern with one group: `{pattern: 'Score: ([0-9.]+)'}`."""


def load_rubrics(settings: GradeSettings) -> tuple[Rubric, ...]:
    """Return the rubrics to grade by in their order, each with its reader.

    Raises UserError in one line for a name that is not known, for whatever is wrong in a file, and where
    two have one name.
    """
    rubrics = [load_rubric(text) for text in settings.rubric]
    names = [rubric.name for rubric in rubrics]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"grade.rubric: two rubrics are called {twice[0]}: give each a `name` of its own")
    if settings.reader is not None:
        rubrics = _read_by(settings.reader, rubrics)
    return tuple(replace(rubric, delimit=settings.delimit) for rubric in rubrics)


def load_rubric(name_or_file: str) -> Rubric:
    """Return one rubric of the recipe; raises UserError as load_rubrics does."""
    if Path(name_or_file).is_absolute():  # the recipe has made every file's path so
        return read_rubric_file(name_or_file)
    if name_or_file not in RUBRICS:
        raise UserError(
            f"grade.rubric: there is no rubric {name_or_file}.{nearest(name_or_file, RUBRICS)} "
            f"A rubric of your own is a file: ./{name_or_file}.yaml"
        )
    return RUBRICS[name_or_file]


def read_rubric_file(path: str) -> Rubric:
    """Return the rubric in a YAML file; raises UserError that names the file and what to mend."""
    source = f"rubric {path}"
    values = read_yaml(read_text(path), source, example="template")
    try:
        file = RubricFile.model_validate({"name": Path(path).stem, **values})
    except ValidationError as error:
        raise UserError(f"{source}: {_first_complaint(error)}") from error
    try:
        return _rubric(file)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from error


def _read_by(reader: str, rubrics: Sequence[Rubric]) -> list[Rubric]:
    """Return the published rubrics with this reader, and the files' with their own."""
    own = [rubric for rubric in rubrics if rubric.name not in RUBRICS]
    if len(own) == len(rubrics) and own[0].reader != reader:
        raise UserError(
            f"grade.reader is {reader}, and the file of {own[0].name} says {own[0].reader}: mend `reader` in "
            "the file, or take the other away (--set grade.reader=null)"
        )
    return [replace(rubric, reader=reader) if rubric.name in RUBRICS else rubric for rubric in rubrics]


def _rubric(file: RubricFile) -> Rubric:
    """Return the file's rubric; raises ValueError in words for the file's author."""
    if file.name in RUBRICS:
        raise ValueError(f"{file.name} is a published rubric: give this one another `name`")
    asked_for = placeholders_in(file.template)
    if unknown := [name for name in asked_for if name not in PLACEHOLDERS]:
        raise ValueError(
            f"there is no placeholder {{{unknown[0]}}}.{nearest(unknown[0], PLACEHOLDERS)} "
            "(braces with blanks inside stand for themselves)"
        )
    if "output" not in asked_for:
        raise ValueError("the template has no {output}: the judge would not see what it is to grade")
    if misplaced := [name for name in placeholders_in(file.system) if name in PLACEHOLDERS]:
        raise ValueError(f"{{{misplaced[0]}}} stands in `system`: a row's texts belong in `template`")
    if not file.scale[0] < file.scale[1]:
        low, high = file.scale
        raise ValueError(f"the scale [{low:g}, {high:g}] does not go upwards: write [lowest, highest]")
    reader, pattern = _reader(file.reader)
    return Rubric(
        name=file.name,
        system=file.system,
        template=file.template,
        fields=tuple(name for name in PLACEHOLDERS if name in asked_for),
        scale=file.scale,
        reader=reader,
        pattern=pattern,
    )


def _reader(value: str | dict[str, Any]) -> tuple[str, str]:
    """Return the reader's name and its pattern; raises ValueError in words for the file's author."""
    if isinstance(value, str):
        if value not in FILE_READERS:
            hint = "" if value == PATTERN else nearest(value, FILE_READERS)
            raise ValueError(f"there is no reader {value}.{hint} A pattern is `reader: {{pattern: '...'}}`")
        return value, ""
    pattern = value.get(PATTERN)
    if list(value) != [PATTERN] or not isinstance(pattern, str):
        raise ValueError("reader: a name, or `{pattern: '...'}` with a regular expression and nothing else")
    try:
        groups = regex.compile(pattern).groups
    except regex.error as error:
        raise ValueError(f"reader.pattern: {error}") from error
    if groups != 1:
        raise ValueError(
            f"reader.pattern has {groups} groups and needs one, around the score: (?:...) groups what is none"
        )
    return PATTERN, pattern


def _first_complaint(error: ValidationError) -> str:
    """Return what is wrong first; a key that is not known before the one that is missing for it."""
    details = sorted(error.errors(), key=lambda detail: detail["loc"][0] in RubricFile.model_fields)
    detail, key = details[0], str(details[0]["loc"][0])
    if key not in RubricFile.model_fields:
        return f"there is no key {key}.{nearest(key, RubricFile.model_fields)}"
    expected = {
        "name": "letters, digits, dots, hyphens and underscores, 64 at most (by default the file's own name)",
        "system": "a text",
        "template": "a text with {output} in it",
        "scale": "two numbers, such as [0, 5]",
        "reader": "robust, original or {pattern: '...'}",
    }[key]
    found = "is missing" if detail["type"] == "missing" else "is wrong"
    return f"{key} {found}: {expected}"
