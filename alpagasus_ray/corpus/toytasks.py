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
    """Every right answer, the fullest first; None when the gaps hold what the world does not know."""


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


def _lookup_tasks(
    category: str,
    testset: str,
    table: Mapping[str, str],
    sentence: str,
    singles: tuple[str, ...],
    several: tuple[str, ...],
) -> tuple[Task, Task]:
    """Return the task that asks for one entry of a table, and the one that asks for two or three."""
    keys = tuple(table)

    def answer_one(slots: Slots) -> tuple[str, ...] | None:
        value = table.get(slots["key"])
        return None if value is None else (sentence.format(value=value), value)

    def answer_several(slots: Slots) -> tuple[str, ...] | None:
        asked = split_words(slots["keys"])
        known = len(asked) > 1 and all(key in table for key in asked)
        return (join_words([table[key] for key in asked]),) if known else None

    return (
        Task(category, testset, _wordings(*singles), lambda rng: {"key": rng.choice(keys)}, answer_one),
        Task(
            category,
            testset,
            _wordings(*((text, "{keys}") for text in several)),
            lambda rng: {"keys": join_words(rng.sample(keys, 2))},
            answer_several,
        ),
    )


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


def _draw_list(rng: Random) -> dict[str, str]:
    return {"items": join_words(_draw_items(rng, 2, 3))}


def _answer_reversal(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    return None if items is None else (join_words(items[::-1]),)


def _draw_end(rng: Random) -> dict[str, str]:
    return {"which": rng.choice(("first", "last")), "items": join_words(_draw_items(rng, 2, 4))}


def _answer_end(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    item = None if items is None else _pick(items, slots["which"])
    return None if item is None else (f"The item is {item}.", item)


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


def _draw_pair(rng: Random) -> dict[str, str]:
    a, b = rng.sample(range(1, 10), 2)
    return {"a": str(a), "b": str(b), "which": rng.choice(("larger", "smaller"))}


def _answer_comparison(slots: Slots) -> tuple[str, ...] | None:
    a, b, which = slots["a"], slots["b"], slots["which"]
    if not (a.isdecimal() and b.isdecimal()) or a == b or which not in ("larger", "smaller"):
        return None
    right = str((max if which == "larger" else min)(int(a), int(b)))
    return (f"The number is {right}.", right)


def _answer_count(slots: Slots) -> tuple[str, ...] | None:
    items = _known_items(slots["items"])
    if items is None or len(items) >= len(tables.NUMBER_WORDS):
        return None
    count = tables.NUMBER_WORDS[len(items)]
    return (f"There are {count} words.", count, str(len(items)), f"There are {len(items)} words")


def _draw_count(rng: Random) -> dict[str, str]:
    return {"items": join_words(_draw_items(rng, 2, 5))}


def _neighbour(name: str, way: str) -> str | None:
    """Return the day or month right after or right before the named one."""
    step = {"after": 1, "before": -1}.get(way)
    for names in (tables.DAYS, tables.MONTHS):
        if name in names and step is not None:
            return names[(names.index(name) + step) % len(names)]
    return None


def _draw_neighbour(rng: Random) -> dict[str, str]:
    unit = rng.choice(("day", "month"))
    names = tables.DAYS if unit == "day" else tables.MONTHS
    return {"unit": unit, "name": rng.choice(names), "way": rng.choice(("after", "before"))}


def _answer_neighbour(slots: Slots) -> tuple[str, ...] | None:
    names = {"day": tables.DAYS, "month": tables.MONTHS}.get(slots["unit"], ())
    right = _neighbour(slots["name"], slots["way"]) if slots["name"] in names else None
    return None if right is None else (f"The {slots['unit']} is {right}.", right)


WORDS, LISTS, NUMBERS, FACTS = "toy-words", "toy-lists", "toy-numbers", "toy-facts"
"""The four test sets."""

TASKS: tuple[Task, ...] = (
    *_lookup_tasks(
        "opposites",
        WORDS,
        tables.OPPOSITES,
        "The opposite is {value}.",
        (
            "What is the opposite of {key}?",
            "Give me a word that means the opposite of {key}.",
            "Name an antonym of {key}.",
            "Which word is the opposite of {key}?",
            "Find the antonym of the word {key}.",
        ),
        (
            "Give the opposite of each word.",
            "Write an antonym for every word in the list.",
            "Turn each of these words into its opposite.",
        ),
    ),
    *_lookup_tasks(
        "plurals",
        WORDS,
        tables.PLURALS,
        "The plural is {value}.",
        (
            "What is the plural of {key}?",
            "Write the plural form of {key}.",
            "How do you say {key} in the plural?",
            "Tell me the plural of the noun {key}.",
            "If there is more than one {key}, what do we call them?",
        ),
        (
            "Write the plural of each noun.",
            "Give the plural form of every word in the list.",
            "Change these nouns from singular to plural.",
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
        "reversal",
        LISTS,
        _wordings(
            ("Reverse the order of this list.", "{items}"),
            ("Write the list backwards.", "{items}"),
            ("Put these words in reverse order.", "{items}"),
            ("List the same items from last to first.", "{items}"),
            "Write these words in reverse order: {items}",
        ),
        _draw_list,
        _answer_reversal,
    ),
    Task(
        "list ends",
        LISTS,
        _wordings(
            ("Give me the {which} item of this list.", "{items}"),
            ("What is the {which} entry in the list?", "{items}"),
            ("Read the list and name its {which} item.", "{items}"),
            "Which item comes {which} in this list: {items}",
        ),
        _draw_end,
        _answer_end,
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
    Task(
        "comparison",
        NUMBERS,
        _wordings(
            "Which number is {which}, {a} or {b}?",
            "Tell me the {which} of the numbers {a} and {b}.",
            "Between {a} and {b}, which is {which}?",
            ("Which of the two numbers is {which}?", "{a}, {b}"),
        ),
        _draw_pair,
        _answer_comparison,
    ),
    Task(
        "counting",
        NUMBERS,
        _wordings(
            ("How many words are in this list?", "{items}"),
            ("Count the words in the list.", "{items}"),
            ("Tell me the number of items below.", "{items}"),
            "Count these words: {items}",
        ),
        _draw_count,
        _answer_count,
    ),
    *_lookup_tasks(
        "capitals",
        FACTS,
        tables.CAPITALS,
        "The capital is {value}.",
        (
            "What is the capital of {key}?",
            "Name the capital city of {key}.",
            "Which city is the capital of {key}?",
            "Tell me the capital of {key}.",
            "I am planning a trip to {key}. What is its capital?",
        ),
        (
            "Name the capital of each country.",
            "Write down the capitals of these countries.",
            "Which capitals belong to these countries?",
        ),
    ),
    *_lookup_tasks(
        "colors",
        FACTS,
        tables.COLORS,
        "The color is {value}.",
        (
            "What color is {key}?",
            "Which color does {key} have?",
            "Name the usual color of {key}.",
            "Describe the color of {key} in one word.",
        ),
        ("Name the color of each thing.", "What colors do these things have?"),
    ),
    *_lookup_tasks(
        "animal sounds",
        FACTS,
        tables.SOUNDS,
        "It {value}.",
        (
            "What sound does a {key} make?",
            "Describe the sound of a {key}.",
            "How does a {key} sound?",
            "Complete the sentence: A {key} ...",
        ),
        ("Write the sound that each animal makes.", "How do these animals sound?"),
    ),
    Task(
        "calendar",
        FACTS,
        _wordings(
            "Which {unit} comes right {way} {name}?",
            "What {unit} is just {way} {name}?",
            "Name the {unit} {way} {name}.",
            ("Which {unit} comes {way} this one?", "{name}"),
        ),
        _draw_neighbour,
        _answer_neighbour,
    ),
)

OPENINGS = ("", "Quick question: ", "Please help. ", "A short task: ", "Hello! ", "Next one: ")
"""What a prompt may begin with, whatever the task."""
