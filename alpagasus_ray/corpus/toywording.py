"""Tasks of the toy world as texts: wordings with gaps that can be filled and read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

Slots = Mapping[str, str]
"""What fills the gaps of a wording, by the gap's name."""


@dataclass(frozen=True)
class Wording:
    """One way to put a task; gaps are named in braces."""

    instruction: str
    input: str = ""
    """Empty where the instruction stands alone."""

    def fill(self, slots: Slots) -> tuple[str, str]:
        """Return the instruction and the input with their gaps filled."""
        return self.instruction.format_map(slots), self.input.format_map(slots)

    def read(self, instruction: str, input: str) -> dict[str, str] | None:
        """Return what fills the gaps in these texts, or None when they are not worded so."""
        first = self._instruction_pattern.fullmatch(instruction)
        if first is None:
            return None
        second = self._input_pattern.fullmatch(input)
        return None if second is None else {**first.groupdict(), **second.groupdict()}

    @cached_property
    def _instruction_pattern(self) -> re.Pattern[str]:
        return _pattern(self.instruction)

    @cached_property
    def _input_pattern(self) -> re.Pattern[str]:
        return _pattern(self.input)


def _pattern(template: str) -> re.Pattern[str]:
    pieces: list[str] = []
    # re.split with a group alternates: text, gap, text, gap, ..., text.
    for at, part in enumerate(re.split(r"\{(\w+)\}", template)):
        group = f"(?P<{part}>"
        if at % 2 == 0:
            pieces.append(re.escape(part))
        else:  # a gap that stands twice holds the same words twice
            pieces.append(f"(?P={part})" if any(group in piece for piece in pieces) else f"{group}.+?)")
    return re.compile("".join(pieces))


@dataclass(frozen=True)
class Task:
    """One kind of task."""

    category: str
    testset: str
    wordings: tuple[Wording, ...]
    draw: Callable[[Random], dict[str, str]]
    """Fills the gaps at random."""
    answer: Callable[[Slots], tuple[str, ...] | None]
    """Every right answer: in full, then the bare word, then others. None for gaps of no known meaning."""


def join_words(words: list[str] | tuple[str, ...]) -> str:
    """Return the words as a list in one line.

    >>> join_words(["pear", "saw"])
    'pear, saw'
    """
    return ", ".join(words)


def split_words(text: str) -> list[str]:
    """Return the words of a list in one line.

    >>> split_words("pear, saw")
    ['pear', 'saw']
    """
    return text.split(", ")
