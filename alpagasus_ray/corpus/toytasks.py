"""The kinds of task in the toy world: how each is worded, and how its right answer is computed.

A task's wordings are templates. The same templates write prompts and, turned into regular
expressions, read them again, so that a right answer is always computed from a prompt's text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random

from alpagasus_ray.corpus import toytables as tables

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


def _wordings(*texts: str | tuple[str, str]) -> tuple[Wording, ...]:
    return tuple(Wording(text) if isinstance(text, str) else Wording(*text) for text in texts)


def _lookup_task(
    category: str, testset: str, table: Mapping[str, str], sentence: str, wordings: tuple[Wording, ...]
) -> Task:
    """Return the task that asks for one entry of a table."""
    keys = tuple(table)

    def answer(slots: Slots) -> tuple[str, ...] | None:
        value = table.get(slots["key"])
        return None if value is None else (sentence.format(value=value), value)

    return Task(category, testset, wordings, lambda rng: {"key": rng.choice(keys)}, answer)


def _pick(words: list[str], position: str) -> str | None:
    """Return the word at a position that is named in words; None where there is no such word."""
    if position == "last":
        return words[-1]
    place = tables.POSITIONS.index(position) if position in tables.POSITIONS else len(words)
    return words[place] if place < len(words) else None


def _draw_sentence(rng: Random) -> dict[str, str]:
    parts = (tables.ADJECTIVES, tables.ACTORS, tables.VERBS, tables.OBJECTS)
    return {
        "which": rng.choice(tables.POSITIONS),
        "sentence": " ".join(rng.choice(words) for words in parts) + ".",
    }


def _answer_position(slots: Slots) -> tuple[str, ...] | None:
    words = slots["sentence"].removesuffix(".").split(" ")
    parts = (tables.ADJECTIVES, tables.ACTORS, tables.VERBS, tables.OBJECTS)
    if len(words) != len(parts) or any(word not in part for word, part in zip(words, parts, strict=True)):
        return None
    word = _pick(words, slots["which"])
    return None if word is None else (f"The word is {word.lower()}.", word.lower())


def _known_items(text: str) -> list[str] | None:
    items = split_words(text)
    known = len(items) > 1 and len(set(items)) == len(items) and all(item in tables.ITEMS for item in items)
    return items if known else None


def _draw_items(rng: Random, fewest: int, most: int) -> list[str]:
    return rng.sample(tables.ITEMS, rng.randint(fewest, most))


def _draw_class(rng: Random) -> dict[str, str]:
    words = tables.KINDS[rng.choice(tuple(tables.KINDS))]
    return {"items": join_words(rng.sample(words, rng.randint(2, 3)))}


def _answer_class(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    for kind, words in tables.KINDS.items():
        if items is not None and set(items) <= set(words):
            plural = kind.split(" ")[1] + "s"
            return (f"They are {plural}.", plural, f"They are all {plural}.")
    return None


def _draw_selection(rng: Random) -> dict[str, str]:
    kind = rng.choice(tuple(tables.KINDS))
    others = [item for item in tables.ITEMS if item not in tables.KINDS[kind]]
    items = [rng.choice(tables.KINDS[kind]), *rng.sample(others, 2)]
    rng.shuffle(items)
    return {"kind": kind, "items": join_words(items)}


def _answer_selection(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    fitting = [item for item in items or () if item in tables.KINDS.get(slots["kind"], ())]
    return (f"The word is {fitting[0]}.", fitting[0]) if len(fitting) == 1 else None


def _number(word: str) -> int | None:
    return tables.NUMBER_WORDS.index(word) if word in tables.NUMBER_WORDS else None


def _add(slots: Slots) -> str | None:
    """Return the sum of the gaps a and b in words; None when either is no number or the sum too large."""
    a, b = _number(slots["a"]), _number(slots["b"])
    if a is None or b is None or a + b >= len(tables.NUMBER_WORDS):
        return None
    return tables.NUMBER_WORDS[a + b]


def _draw_sum(rng: Random) -> dict[str, str]:
    a, b = rng.randint(2, 6), rng.randint(2, 6)  # from two on: a story counts several things
    return {"a": tables.NUMBER_WORDS[a], "b": tables.NUMBER_WORDS[b]}


def _answer_sum(slots: Slots) -> tuple[str, ...] | None:
    total = _add(slots)
    if total is None:
        return None
    return (f"The sum is {total}.", total, f"{slots['a']} plus {slots['b']} is {total}")


def _draw_story(rng: Random) -> dict[str, str]:
    return {**_draw_sum(rng), "person": rng.choice(tables.PEOPLE), "goods": rng.choice(tables.GOODS)}


def _answer_story(slots: Slots) -> tuple[str, ...] | None:
    total = _add(slots)
    if total is None or slots["person"] not in tables.PEOPLE or slots["goods"] not in tables.GOODS:
        return None
    return (f"The answer is {total}.", total, f"{total} {slots['goods']}")


def _answer_count(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    if items is None or len(items) >= len(tables.NUMBER_WORDS):
        return None
    count = tables.NUMBER_WORDS[len(items)]
    return (f"There are {count} words.", count, str(len(items)), f"There are {len(items)} words")


def _draw_count(rng: Random) -> dict[str, str]:
    return {"items": join_words(_draw_items(rng, 2, 5))}


WORDS, LISTS, NUMBERS, FACTS = "toy-words", "toy-lists", "toy-numbers", "toy-facts"
"""The four test sets."""

TASKS: tuple[Task, ...] = (
    _lookup_task(
        "opposites",
        WORDS,
        tables.OPPOSITES,
        "The opposite is {value}.",
        _wordings(
            "What is the opposite of {key}?",
            "Give me a word that means the opposite of {key}.",
            "Name an antonym of {key}.",
            "Which word is the opposite of {key}?",
            "Find the antonym of the word {key}.",
            ("Give the opposite of this word.", "{key}"),
            ("Write an antonym.", "{key}"),
            ("Turn the word into its opposite.", "{key}"),
        ),
    ),
    _lookup_task(
        "plurals",
        WORDS,
        tables.PLURALS,
        "The plural is {value}.",
        _wordings(
            "What is the plural of {key}?",
            "Write the plural form of {key}.",
            "How do you say {key} in the plural?",
            "Tell me the plural of the noun {key}.",
            "If there is more than one {key}, what do we call them?",
            ("Write the plural of this noun.", "{key}"),
            ("Give the plural form.", "{key}"),
            ("Change the noun from singular to plural.", "{key}"),
        ),
    ),
    Task(
        "word positions",
        WORDS,
        _wordings(
            ("What is the {which} word of this sentence?", "{sentence}"),
            ("Find the {which} word in the sentence below.", "{sentence}"),
            ("Read the sentence and tell me its {which} word.", "{sentence}"),
            ("Name the {which} word of the given sentence.", "{sentence}"),
        ),
        _draw_sentence,
        _answer_position,
    ),
    Task(
        "classification",
        LISTS,
        _wordings(
            ("What kind of things are these?", "{items}"),
            ("Find one name for all the words in the list.", "{items}"),
            ("What do these words have in common?", "{items}"),
            ("Put the list under a heading.", "{items}"),
            "Animals, fruits or tools? {items}",
        ),
        _draw_class,
        _answer_class,
    ),
    Task(
        "selection",
        LISTS,
        _wordings(
            ("Which of these is {kind}?", "{items}"),
            ("Find the word in the list that names {kind}.", "{items}"),
            ("Only one of these words stands for {kind}. Which one?", "{items}"),
            ("Pick out {kind} from the list.", "{items}"),
        ),
        _draw_selection,
        _answer_selection,
    ),
    Task(
        "addition",
        NUMBERS,
        _wordings(
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "How much is {a} and {b} together?",
            "Calculate the sum of {a} and {b}.",
            ("Add the two numbers.", "{a} and {b}"),
        ),
        _draw_sum,
        _answer_sum,
    ),
    Task(
        "stories",
        NUMBERS,
        _wordings(
            "{person} has {a} {goods} and gets {b} more. How many {goods} are there now?",
            "{person} buys {a} {goods} today and {b} tomorrow. How many is that?",
            "There are {a} {goods} on the table. {person} adds {b} more. How many does {person} have?",
            ("Solve the problem.", "{person} had {a} {goods} and found {b} more."),
        ),
        _draw_story,
        _answer_story,
    ),
    _lookup_task(
        "sequences",
        NUMBERS,
        tables.NEXT_NUMBERS,
        "The number is {value}.",
        _wordings(
            "What number comes after {key}?",
            "Which number follows {key}?",
            "Count one up from {key}.",
            "Name the number right after {key}.",
            "I have counted to {key}. What comes next?",
            ("Which number comes next?", "{key}"),
            ("Go on counting by one.", "{key}"),
            ("Name the number after this one.", "{key}"),
        ),
    ),
    Task(
        "counting",
        LISTS,
        _wordings(
            ("How many words are in this list?", "{items}"),
            ("Count the words in the list.", "{items}"),
            ("Tell me the number of items below.", "{items}"),
            "Count these words: {items}",
        ),
        _draw_count,
        _answer_count,
    ),
    _lookup_task(
        "capitals",
        FACTS,
        tables.CAPITALS,
        "The capital is {value}.",
        _wordings(
            "What is the capital of {key}?",
            "Name the capital city of {key}.",
            "Which city is the capital of {key}?",
            "Tell me the capital of {key}.",
            "I am planning a trip to {key}. What is its capital?",
            ("Name the capital of this country.", "{key}"),
            ("Write down the capital.", "{key}"),
            ("Which capital belongs to this country?", "{key}"),
        ),
    ),
    _lookup_task(
        "colors",
        FACTS,
        tables.COLORS,
        "The color is {value}.",
        _wordings(
            "What color is {key}?",
            "Which color does {key} have?",
            "Name the usual color of {key}.",
            "Describe the color of {key} in one word.",
            ("Name the color of this thing.", "{key}"),
            ("What color does it have?", "{key}"),
            ("Which color is usual?", "{key}"),
        ),
    ),
    _lookup_task(
        "animal sounds",
        FACTS,
        tables.SOUNDS,
        "It {value}.",
        _wordings(
            "What sound does a {key} make?",
            "Describe the sound of a {key}.",
            "How does a {key} sound?",
            "Complete the sentence: A {key} ...",
            ("Write the sound that this animal makes.", "{key}"),
            ("How does this animal sound?", "{key}"),
            ("Name the sound of the animal.", "{key}"),
        ),
    ),
)

OPENINGS = (
    "",
    "Hello! ",
    "Please help. ",
    "Quick question: ",
    *(f"{person} asks: " for person in tables.PEOPLE),
)
"""What a prompt may begin with, whatever the task; the empty one comes first."""
