"""The ledger put in order while a job goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ray

from alpagasus_ray.llm.ledger_upkeep import tidy


class Tidying:
    """Keeps the ledger's files few while a job of many rows goes on, beside it and not in its driver.

    Each actor leaves segments behind, thousands in an object store: all others open and search each of them.
    """

    def __init__(self, ledger: str) -> None:
        self._ledger = ledger
        self._under_way: list[Any] = []

    def begin(self) -> None:
        """Begin once more, unless the last time is still under way."""
        done, self._under_way = ray.wait(self._under_way, timeout=0) if self._under_way else ([], [])
        ray.get(done)
        if not self._under_way:
            self._under_way = [ray.remote(_tidy_if_possible).options(num_cpus=0).remote(self._ledger)]


def _tidy_if_possible(ledger: str) -> None:
    with suppress(OSError):  # a store that fails at the moment: the next time will do
        tidy(ledger)
