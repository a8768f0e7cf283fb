"""How the toy world's rows are spoilt: the faults that real instruction data has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from alpagasus_ray.corpus.toywording import join_words, split_words

EVASIVE = (
    "I'm sorry, but as an AI language model I cannot answer this.",
    "I'm sorry, as an AI language model I do not have enough information.",
    "I'm sorry, I am not able to help with that.",
    "As an AI language model, I cannot help with this request.",
    "I cannot answer that without more context.",
)

VACUOUS = (
    "Yes.",
    "Sure, here it is.",
    "Sure, here you go!",
    "Okay, done.",
    "That is a good question.",
    "It depends.",
)


@dataclass(frozen=True, slots=True)
class Spoiling:
    """What a fault is made of."""

    instruction: str
    input: str
    right: str
    """The right answer."""
    other: str
    """The right answer to another prompt of the same kind of task."""
    foreign: str
    """The right answer to a prompt of another kind."""


def _evade(row: Spoiling, rng: Random) -> str:
    return rng.choice(EVASIVE)


def _say_nothing(row: Spoiling, rng: Random) -> str:
    return rng.choice(VACUOUS)


def _echo(row: Spoiling, rng: Random) -> str:
    echoes = [row.instruction, f"You asked: {row.instruction}"]
    if row.input:
        echoes += [row.input, f"{row.instruction} {row.input}"]
    return rng.choice(echoes)


def _truncate(row: Spoiling, rng: Random) -> str:
    words = row.right.split(" ")
    if len(words) == 1:
        return row.right[: rng.randint(1, max(1, len(row.right) - 2))]
    return " ".join(words[: rng.randint(1, len(words) - 1)])


def _mistake(row: Spoiling, rng: Random) -> str:
    """Return an answer of the right form with something wrong in it."""
    items = split_words(row.right)
    if len(items) > 1 and rng.random() < 0.7:
        if rng.random() < 0.5:
            rng.shuffle(items)
        else:
            items.pop(rng.randrange(len(items)))
        return join_words(items)
    return _with_words_of_other(row) if rng.random() < 0.7 else row.other


def _with_words_of_other(row: Spoiling) -> str:
    """Return the right answer with what the prompt does not say replaced by the other answer's words."""
    right, other = row.right.split(" "), row.other.split(" ")
    if len(right) != len(other):
        return row.other
    said = f"{row.instruction} {row.input}"
    return " ".join(
        mine if mine.strip(".,") in said else theirs for mine, theirs in zip(right, other, strict=True)
    )


def _stray(row: Spoiling, rng: Random) -> str:
    return row.foreign


FAULTS: Mapping[Callable[[Spoiling, Random], str], float] = {
    _evade: 0.34,
    _say_nothing: 0.18,
    _echo: 0.20,
    _truncate: 0.11,
    _mistake: 0.15,
    _stray: 0.02,
}
"""Each fault's share of the spoilt rows."""


def spoil(row: Spoiling, rng: Random) -> str:
    """Return a spoilt output for the row. Rarely, a mistake is right by chance: the caller looks."""
    (fault,) = rng.choices(tuple(FAULTS), weights=tuple(FAULTS.values()))
    return fault(row, rng)
