"""How many rows a judge is handed at once. Knows no Ray."""

from __future__ import annotations

from collections.abc import Iterator


def portions(num_rows: int, at_most: int, first: int | None = None) -> Iterator[slice]:
    """Yield the places of rows that are handed on together: in order, each row in one portion.

    `first`: rows of the first portion; each later one has half as many again as the one before, until
    `at_most`. Work that ends with the portion in which n rows were enough has then handed on fewer than
    1.5 n + `first`. None: all portions have `at_most`. Both are at least 1.
    """
    begin, size = 0, at_most if first is None else min(first, at_most)
    while begin < num_rows:
        yield slice(begin, min(begin + size, num_rows))
        begin, size = begin + size, min(size * 3 // 2, at_most)
