"""From a file of instruction data to the run's triplets: every row is kept, or set aside with a reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from alpagasus_ray.corpus.triplets import RejectedRowError, parse_triplet
from alpagasus_ray.errors import UserError
from alpagasus_ray.schemas import TRIPLETS
from alpagasus_ray.text_files import read_text

NEEDED_COLUMNS = ("instruction", "output")


@dataclass
class Corpus:
    """Triplets in source order, and what was set aside."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """As the TRIPLETS schema says."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """Objects with position, id, reason and the source row."""

    @property
    def num_duplicates(self) -> int:
        """Rows whose content stands earlier in the file: graded once, kept in their places."""
        return sum(row["duplicate"] for row in self.rows)

    def failures(self) -> dict[str, int]:
        """Return how many rows were set aside, by reason."""
        return dict(Counter(row["reason"] for row in self.rejected))

    def to_table(self) -> pa.Table:
        """Return the triplets as Arrow rows."""
        return pa.Table.from_pylist(self.rows, schema=TRIPLETS)


def read_json_rows(path: str | Path, needed: Iterable[str] = NEEDED_COLUMNS) -> list[Any]:
    """Return the rows of a JSON file that holds one list.

    Raises UserError for a missing or unreadable file, with line and column where it stops being JSON,
    and for data in which no row has one of the `needed` columns.
    """
    text = read_text(path)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg}); "
            "one list of rows is expected, not a row a line"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: a number there is too long to be instruction data") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply to be instruction data") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: a JSON list of rows is expected, such as Alpaca's alpaca_data.json")
    if not rows:
        raise UserError(f"{path}: the list holds no rows")
    columns = {key for row in rows if isinstance(row, dict) for key in row}
    for column in needed:
        if column not in columns:
            shown = ", ".join(sorted(columns)[:10]) or "none"
            raise UserError(f"{path}: no row has a column {column} (columns found: {shown})")
    return rows


def read_rejected(text: str) -> list[dict[str, Any]]:
    """Return the rows that were set aside, from the text of rejected.json: position, id and reason."""
    return [{name: row[name] for name in ("position", "id", "reason")} for row in json.loads(text)]


def ingest(source_rows: Iterable[Any], limit: int | None = None) -> Corpus:
    """Return the triplets of these rows, in order; `limit` counts source rows."""
    corpus = Corpus()
    seen: set[str] = set()
    for position, row in enumerate(source_rows):
        if limit is not None and position >= limit:
            break
        try:
            triplet = parse_triplet(row)
            source = json.dumps(row, ensure_ascii=False)
            source.encode()  # a lone surrogate cannot be written anywhere
        except (RejectedRowError, UnicodeEncodeError) as error:
            reason = str(error) if isinstance(error, RejectedRowError) else "text is not valid Unicode"
            corpus.rejected.append({"position": position, "id": _row_id(row), "reason": reason, "row": row})
            continue
        corpus.rows.append(
            {
                "position": position,
                "id": triplet.id,
                "instruction": triplet.instruction,
                "input": triplet.input,
                "output": triplet.output,
                "category": triplet.category,
                "source": source,
                "duplicate": triplet.id in seen,
            }
        )
        seen.add(triplet.id)
    if not corpus.rows:
        raise UserError(f"no row is usable: {describe_failures(corpus.failures())}")
    return corpus


def _row_id(row: object) -> str:
    """Return a hash that names a row which is no triplet."""
    text = json.dumps(row, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def describe_failures(failures: dict[str, int]) -> str:
    """Return counts by reason in words, the most frequent first.

    >>> describe_failures({"output is empty": 2, "input is not a string": 5})
    'input is not a string (5), output is empty (2)'
    """
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} ({count:,})" for reason, count in ordered)
