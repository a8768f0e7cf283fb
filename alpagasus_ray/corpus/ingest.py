"""From rows of instruction data to triplets: every row is kept, or set aside with a reason."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from alpagasus_ray.corpus.row_forms import ALPACA, FORMS, RejectedRowError, RowForm
from alpagasus_ray.corpus.rows import BadRow
from alpagasus_ray.corpus.seen_ids import SeenIds
from alpagasus_ray.corpus.triplets import parse_triplet
from alpagasus_ray.errors import UserError

MAX_COLUMNS_NOTED = 1000


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row that is a triplet."""

    record: dict[str, Any]
    """As the TRIPLETS schema says."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was set aside."""

    record: dict[str, Any]
    """Position, id, reason, the source row or its text and, where a line cannot be read, its number."""

    @property
    def reason(self) -> str:
        """Why, in a few fixed words."""
        return str(self.record["reason"])


def possible_forms(format: str, columns: Mapping[str, str]) -> list[RowForm]:
    """Return the forms that rows of this format can have, the likeliest first.

    Where columns are named, they take the place of Alpaca's or Dolly's.
    """
    forms = [FORMS[format]] if format in FORMS else list(FORMS.values())
    return [form.with_columns(columns) for form in forms if not (columns and form.is_chat)]


def find_form(rows: Iterable[Any], forms: Sequence[RowForm], name: str) -> RowForm:
    """Return the first form that a row fits; rows are read no further than that.

    Raises UserError that says what was looked for and what is there instead, or that there is nothing.
    """
    columns: dict[str, None] = {}
    bad: BadRow | None = None
    is_empty = True
    for row in rows:
        is_empty = False
        if isinstance(row, BadRow):
            bad = row
        elif isinstance(row, Mapping):
            if form := next((form for form in forms if form.fits(row)), None):
                return form
            if len(columns) < MAX_COLUMNS_NOTED:
                columns.update(dict.fromkeys(row))
    if is_empty:
        raise UserError(f"{name} holds no rows")
    if bad is not None and not columns:
        raise UserError(f"{name}: no row can be read: {bad.reason}")
    shown = ", ".join(sorted(map(str, columns))[:10]) or "none"
    if len(columns) == 1 and (found := re.search(r"[;\t|]", shown)):
        shown += f": a CSV file's columns are parted by commas, and this one's by {found[0]!r}?"
    looked_for = "; ".join(form.describe() for form in forms)
    raise UserError(
        f"{name}: no row has the columns that were looked for: {looked_for} (columns found: {shown}); "
        "yours can be named: --set 'corpus.columns={instruction: NAME, output: NAME}'"
    )


def ingest(
    source_rows: Iterable[Any], form: RowForm = ALPACA, limit: int | None = None
) -> Iterator[KeptRow | RejectedRow]:
    """Yield each row of the source, kept or set aside, in order; `limit` counts source rows.

    Only the ids of the rows so far are held in memory, up to 43 bytes each. Raises UserError at the end
    where no row was kept.
    """
    seen = SeenIds()
    failures: dict[str, int] = {}
    for position, row in enumerate(islice(source_rows, limit)):
        try:
            kept = _kept(position, row, form)
        except RejectedRowError as error:
            reason = str(error)
            failures[reason] = failures.get(reason, 0) + 1
            yield _rejected(position, row, reason)
            continue
        kept["duplicate"] = not seen.add(bytes.fromhex(kept["id"]))
        yield KeptRow(kept)
    if not len(seen):
        raise UserError(f"no row is usable: {describe_failures(failures)}")


def _kept(position: int, row: Any, form: RowForm) -> dict[str, Any]:
    if isinstance(row, BadRow):
        raise RejectedRowError(row.reason)
    triplet = parse_triplet(row, form)
    try:
        source = json.dumps(row, ensure_ascii=False)
        source.encode()  # a lone surrogate cannot be written anywhere
    except UnicodeEncodeError as error:
        raise RejectedRowError("text is not valid Unicode") from error
    except RecursionError as error:
        raise RejectedRowError("row is nested too deeply") from error
    return {
        "position": position,
        "id": triplet.id,
        "instruction": triplet.instruction,
        "input": triplet.input,
        "output": triplet.output,
        "category": triplet.category,
        "source": source,
    }


def _rejected(position: int, row: Any, reason: str) -> RejectedRow:
    shown = row.text if isinstance(row, BadRow) else row
    try:
        text = json.dumps(shown, sort_keys=True)
    except RecursionError:  # too deep to be written anywhere
        shown, text = None, str(position)
    # A hash names a row which is no triplet.
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    record = {"position": position, "id": digest, "reason": reason, "row": shown}
    if isinstance(row, BadRow) and row.line is not None:
        record["line"] = row.line
    return RejectedRow(record)


def read_rejected(text: str) -> list[dict[str, Any]]:
    """Return the rows that were set aside, from the text of rejected.json: position, id and reason."""
    return [{name: row[name] for name in ("position", "id", "reason")} for row in json.loads(text)]


def describe_failures(failures: Mapping[str, int]) -> str:
    """Return counts by reason in words, the most frequent first.

    >>> describe_failures({"output is empty": 2, "input is not a string": 5})
    'input is not a string (5), output is empty (2)'
    """
    ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} ({count:,})" for reason, count in ordered)
