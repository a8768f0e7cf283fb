"""A judge most of whose replies cannot be read is stopped before all rows are paid for. Knows no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from alpagasus_ray.llm.asking import is_unreadable
from alpagasus_ray.llm.chat import EndpointError

if TYPE_CHECKING:
    from alpagasus_ray.judge.judging import Judgment

PILOT_ROWS = 20
"""That an actor asks about before all others: enough that a judge of whom one reply in four cannot be read is
stopped in one run of 250 (a binomial tail: more than 10 of 20)."""
NUM_EXAMPLES = 3
EXAMPLE_CHARACTERS = 60


class Readable:
    """Counts what could be read of the replies that were just paid for."""

    def __init__(self) -> None:
        self._num_read = self._num_unreadable = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take in judged rows (judging.JUDGED); those of the ledger say nothing of the judge as he is now."""
        for row in rows:
            if not row["from_ledger"]:
                self._num_read += not row["failure"]
                self._num_unreadable += is_unreadable(row["failure"])

    def is_proof(self) -> bool:
        """Return whether a pilot's worth of replies could be read, and most of all."""
        return self._num_read >= max(PILOT_ROWS, self._num_unreadable)


class Row:
    """What becomes of one row."""

    judgment: Judgment | None = None
    """None where it was given up."""


class PilotGate:
    """Lets PILOT_ROWS rows through at once, and the others once most of these have been read."""

    def __init__(self, model: str, num_rows: int = PILOT_ROWS) -> None:
        self._model, self._num_rows = model, num_rows
        self._num_entered = self._num_left = 0
        self._unreadable: list[str] = []
        self._is_open = asyncio.Event()
        self._error: EndpointError | None = None

    @asynccontextmanager
    async def row(self) -> AsyncIterator[Row]:
        """Wait until a row may be asked about; what the block puts into it counts.

        Raises EndpointError with three examples where most of the pilot's replies could not be read.
        """
        row = Row()
        if self._num_entered >= self._num_rows:
            await self._is_open.wait()
            if self._error is not None:
                raise self._error
            yield row
            return
        self._num_entered += 1
        try:
            yield row
        finally:
            self._leave(row)

    def _leave(self, row: Row) -> None:
        self._num_left += 1
        if row.judgment is not None and is_unreadable(row.judgment.failure):
            self._unreadable.append(row.judgment.text or "")
        if self._num_left == self._num_rows:
            if 2 * len(self._unreadable) > self._num_rows:
                self._error = EndpointError(self._complaint())
            self._is_open.set()

    def _complaint(self) -> str:
        examples = ", ".join(f'"{_shown(text)}"' for text in self._unreadable[:NUM_EXAMPLES])
        return (
            f"{self._model}: {len(self._unreadable)} of its first {self._num_rows} replies hold no scores "
            f"that can be read, such as {examples}: take another judge, or more max_tokens"
        )


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[:EXAMPLE_CHARACTERS]}..."
