"""One row of instruction data, and the check that makes one out of a source row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEXT_FIELDS = ("instruction", "input", "output")


@dataclass(frozen=True, slots=True)
class Triplet:
    """An instruction, its optional input, and the output that a model is to learn."""

    id: str
    """Hash of the content: equal rows have equal ids, whatever their place in the file."""
    instruction: str
    input: str
    """Empty where the instruction stands alone."""
    output: str
    category: str | None = None


class RejectedRowError(ValueError):
    """A source row that is no triplet; the message is the reason, in a few fixed words."""


def triplet_id(instruction: str, input: str, output: str) -> str:
    """Return the 32 hexadecimal digits that name this content."""
    content = json.dumps([instruction, input, output], ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def seeded_draw(triplet_id: str, seed: int) -> bytes:
    """Return a row's place in a seeded shuffle: rows sorted by it are in a random order.

    It hangs on the row's content alone, so that an edited row elsewhere in the file moves no other.
    """
    return hashlib.blake2b(f"{seed}:{triplet_id}".encode(), digest_size=8).digest()


def parse_triplet(row: object) -> Triplet:
    """Return the triplet in a source row of the Alpaca form.

    Raises RejectedRowError with a reason that names the field: missing, empty or not a string. A
    missing or null input is an empty one, since half of such files leave it out.
    """
    if not isinstance(row, Mapping):
        raise RejectedRowError("row is not an object")
    texts: dict[str, str] = {}
    for field in TEXT_FIELDS:
        texts[field] = _text(row, field)
    category = row.get("category")
    return Triplet(
        id=triplet_id(**texts),
        **texts,
        category=category if isinstance(category, str) and category else None,
    )


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None and field == "input":
        return ""
    if value is None:
        raise RejectedRowError(f"{field} is missing")
    if not isinstance(value, str):
        raise RejectedRowError(f"{field} is not a string")
    if not value.strip() and field != "input":
        raise RejectedRowError(f"{field} is empty")
    return value
