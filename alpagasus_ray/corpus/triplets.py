"""One row of instruction data, and the check that makes one out of a source row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from alpagasus_ray.corpus.row_forms import ALPACA, RejectedRowError, RowForm


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


def triplet_id(instruction: str, input: str, output: str) -> str:
    """Return the 32 hexadecimal digits that name this content."""
    content = json.dumps([instruction, input, output], ensure_ascii=False)
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def seeded_draw(triplet_id: str, seed: int) -> bytes:
    """Return a row's place in a seeded shuffle: rows sorted by it are in a random order.

    It hangs on the row's content alone, so that an edited row elsewhere in the file moves no other.
    """
    return hashlib.blake2b(f"{seed}:{triplet_id}".encode(), digest_size=8).digest()


def parse_triplet(row: object, form: RowForm = ALPACA) -> Triplet:
    """Return the triplet in a source row of this form.

    Raises RejectedRowError with a reason, as RowForm.texts does, and for what is no object.
    """
    if not isinstance(row, Mapping):
        raise RejectedRowError("row is not an object")
    texts = form.texts(row)
    return Triplet(triplet_id(texts.instruction, texts.input, texts.output), *texts)
