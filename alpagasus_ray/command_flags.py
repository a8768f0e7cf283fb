"""Flags that are short names for a recipe's settings: one way to add them, for all commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from alpagasus_ray.recipe_section import checked_name

Flags = Mapping[str, tuple[str, Callable[[str], Any], str]]
"""Recipe key within its section, type and help, by flag."""
JUDGE_FLAGS: Flags = {
    "--judge": ("judge", str, "openai (any compatible server), anthropic, or answer-key (the toy world's)"),
    "--model": ("model", str, "the judge's model name"),
    "--base-url": ("base_url", str, "an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"),
    "--api-key-env": ("api_key_env", str, "the variable that holds the key (the provider's usual one)"),
    "--max-concurrency": ("max_concurrency", int, "requests in flight"),
    "--requests-per-minute": ("requests_per_minute", float, "the most requests in a minute"),
    "--tokens-per-minute": ("tokens_per_minute", float, "the most tokens in a minute"),
    "--max-cost-usd": ("max_cost_usd", float, "stop before more dollars than this are spent"),
    "--reader": ("reader", str, "how a reply is read: robust, or original (the published code's)"),
}


def add_settings(command: argparse.ArgumentParser, section: str, flags: Flags) -> None:
    """Add flags, each a short name for a setting of the section."""
    for flag, (key, kind, help) in flags.items():
        add_setting(command, section, flag, key, help, type=kind, metavar=key.upper())


def add_setting(
    command: argparse.ArgumentParser, section: str, flag: str, key: str, help: str, **options: Any
) -> None:
    """Add one flag that is a short name for a setting; `options` are argparse's own."""
    command.add_argument(flag, dest=f"{section}.{key}", help=f"{help} [{section}.{key}]", **options)


def add_switch(command: argparse.ArgumentParser, section: str, flag: str, key: str, help: str) -> None:
    """Add a flag without a value that turns a setting on."""
    add_setting(command, section, flag, key, help, action="store_const", const=True)


def arm_name(text: str) -> str:
    """Return an arm's name; raises ArgumentTypeError, in words, for what could be none."""
    try:
        return checked_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def arm_names(text: str) -> list[str]:
    """Return the arms that are separated by commas; raises ArgumentTypeError as `arm_name` does."""
    return [arm_name(part) for part in split(text)]


def split(text: str) -> list[str]:
    """Return what is separated by commas; raises ArgumentTypeError where nothing is.

    >>> split("koala, vicuna")
    ['koala', 'vicuna']
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError("a name is missing" + " beside a comma" * (len(parts) > 1))
    return parts
