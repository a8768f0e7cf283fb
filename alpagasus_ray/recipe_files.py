"""Reading a recipe: a YAML file or a shipped name, then `--set`, then flags."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.recipe import ArmSettings, PriceSettings, Recipe, Section
from alpagasus_ray.recipe_section import holds_a_secret
from alpagasus_ray.text_files import read_text

NAMED_SECTIONS: dict[str, type[Section]] = {"arms": ArmSettings, "prices": PriceSettings}
"""Sections of the recipe that hold others by names of the user's own."""


NEW_ARM = "A new one wants a rule: alpagasus select --threshold, --keep-share, --top-k or --random"


def load_recipe(
    name_or_file: str | None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    *,
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    stored: str | None = None,
) -> Recipe:
    """Return the recipe of a YAML file or of a name that ships with the package, overridden.

    `overrides` are texts `section.key=value`, the value read as YAML; `flags` are dotted keys and
    values (None: not given), `arms` arms by name, or parts of them; `stored` is the YAML text of a run's own
    recipe, for where none is named.
    Flags win over overrides, overrides over the file. Raises UserError in one line that names the
    wrong key and the nearest right one.
    """
    values = _read(name_or_file) if name_or_file else read_yaml(stored or "", "recipe of the run")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write it as section.key=value")
        try:
            _assign(values, key.strip(), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise UserError(f"--set {override}: {text} is not a YAML value") from error
    for key, value in (flags or {}).items():
        if value is not None:
            _assign(values, key, value)
    for arm, settings in (arms or {}).items():
        known = values["arms"] = dict(values.get("arms") or {})
        if "selector" not in settings and arm not in known:
            raise UserError(f"there is no arm {arm}.{nearest(arm, known)} {NEW_ARM}")
        known[arm] = settings if "selector" in settings else {**known[arm], **settings}
    return parse_recipe(values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these values; raises UserError as load_recipe does."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(_first_line(error)) from error


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    folder = resources.files("alpagasus_ray") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def require_key(variable: str | None) -> str | None:
    """Return the key in an environment variable, without the white space around it that files leave there.

    Raises UserError where the variable is not set, or holds what no HTTP header can carry.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"the environment variable {variable} is not set: export {variable}=... (the API key)"
        )
    if not key.isascii() or not key.isprintable():
        raise UserError(
            f"the environment variable {variable} holds no API key: it has characters that no header "
            "can carry (letters beyond ASCII, line breaks)"
        )
    return key


def _read(name_or_file: str) -> dict[str, Any]:
    shipped = resources.files("alpagasus_ray") / "recipes" / f"{name_or_file}.yaml"
    if Path(name_or_file).is_file():
        text = read_text(name_or_file)
    elif "/" not in name_or_file and shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        raise UserError(
            f"recipe {name_or_file}: no such file or name.{nearest(name_or_file, recipe_names())}"
        )
    return read_yaml(text, f"recipe {name_or_file}")


def read_yaml(text: str, source: str, example: str = "grade") -> dict[str, Any]:
    """Return the mapping in a YAML text.

    Raises UserError that names the source and the line; `example` is a key that a user may know.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source}{where}: {problem}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{source}: keys with values are expected, such as `{example}:`")
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; by itself the last one wins in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node; raises ConstructorError for a key that stands twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def _assign(values: dict[str, Any], dotted_key: str, value: Any) -> None:
    *sections, key = dotted_key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{dotted_key}: {section} is a value, not a section")
        values = inner
    values[key] = value


def _first_line(error: ValidationError) -> str:
    """Return what is wrong first, with the nearest right key where a key is wrong."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        *section, key = detail["loc"]
        paths = _paths_of(str(key), Recipe)
        elsewhere = paths[0] if len(paths) == 1 else None
        return f"recipe: there is no setting {where}.{nearest(str(key), _keys_at(section), elsewhere)}"
    if where.endswith("api_key_env"):
        return f"recipe: {where}: the name of an environment variable is expected, not the key itself"
    message = detail["msg"].removeprefix("Value error, ")
    is_shown = not isinstance(detail["input"], dict | Section) and not holds_a_secret(str(detail["input"]))
    shown = f" (it is {detail['input']!r})" if is_shown else ""
    return f"recipe: {where}: {message}{shown}"


def _keys_at(location: Sequence[int | str]) -> list[str]:
    model: type[Section] = Recipe
    for part in location:
        if (named := NAMED_SECTIONS.get(str(part))) is not None:
            return list(named.model_fields)
        model = _section_at(model, str(part)) or model  # a value there is an error of another kind
    return list(model.model_fields)


def _paths_of(key: str, model: type[Section], prefix: str = "") -> list[str]:
    """Return where in the recipe a setting is that is called so, in dotted keys."""
    found = [f"{prefix}{key}"] if key in model.model_fields else []
    for name in model.model_fields:
        if (section := _section_at(model, name)) is not None:
            of_ones_own = "NAME." if name in NAMED_SECTIONS else ""
            found += _paths_of(key, section, f"{prefix}{name}.{of_ones_own}")
    return found


def _section_at(model: type[Section], key: str) -> type[Section] | None:
    """Return the section that a key of another one holds; None where it holds a value."""
    annotation = model.model_fields[key].annotation
    # A section that may be left out is a union with None.
    kinds = [annotation, *get_args(annotation)]
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Section)), None)
