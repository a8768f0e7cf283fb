"""The folder that a job is sent with: what of it goes, how large it is, and which files flags name. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from alpagasus_ray.errors import UserError

MIB = 2**20
NUM_LARGEST = 3


@dataclass(frozen=True)
class WorkingFolder:
    """A folder, and the sizes of those of its files that are sent, by path in it."""

    folder: Path
    sizes: Mapping[str, int]

    def check_size(self, limit_bytes: int) -> None:
        """Raise UserError that names the largest entries where Ray would not take the whole."""
        total = sum(self.sizes.values())
        if total <= limit_bytes:
            return
        entries: Counter[str] = Counter()
        for path, size in self.sizes.items():
            entries[path.partition("/")[0]] += size
        largest = ", ".join(f"{name} ({_mib(size)})" for name, size in entries.most_common(NUM_LARGEST))
        raise UserError(
            f"{self.folder} is {_mib(total)}, Ray takes {_mib(limit_bytes)} with a job (largest: {largest}): "
            "leave some out (--exclude, .gitignore or .rayignore), or take a smaller --working-dir"
        )

    def check_carried(self, text: str, what: str) -> None:
        """Raise UserError where a flag's value is a file or folder here that the job will not have.

        A whole path is the cluster's: whether it is there the stage itself says, before it begins.
        """
        path = PurePath(text)
        if not text or "://" in text or path.is_absolute() or not _exists(self.folder / path):
            return
        place = (self.folder / path).resolve()
        if not place.is_relative_to(self.folder.resolve()):
            raise UserError(
                f"{what} {text} lies outside {self.folder}, which is all that the job is sent with: put it "
                "there, take a larger --working-dir, or name a place that all nodes share by its whole path"
            )
        inside = place.relative_to(self.folder.resolve()).as_posix()
        # A bare word may be the name of something else, such as an arm.
        is_a_word = "/" not in text and not path.suffix
        if not is_a_word and not any(one == inside or one.startswith(f"{inside}/") for one in self.sizes):
            raise UserError(
                f"{what} {text} is left out of what the job is sent with (runs/, ledger/, .gitignore, "
                ".rayignore or --exclude): let it in, or name a place that all nodes share by its whole path"
            )


def named_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the texts among parsed flags, or a recipe's settings, with what they belong to.

    >>> list(named_texts({"a": ["x", 1], "b": {"c": "y"}, "overrides": ["corpus.data=z"]}))
    [('a', 'x'), ('b.c', 'y'), ('--set corpus.data', 'z')]
    """
    for name, value in values.items():
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", text) for inner, text in named_texts(value))
        elif isinstance(value, list | tuple):
            for one in value:
                if name == "overrides":
                    key, _, text = str(one).partition("=")
                    yield f"--set {key}", text
                elif isinstance(one, str):
                    # Of [SET=]FILE the file.
                    yield name, one.rpartition("=")[2] if "://" not in one else one


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that is no path: too long, or with a null in it
        return False


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.0f} MiB"
