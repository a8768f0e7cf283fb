"""How prompts of the toy world are drawn, and how their right answers are computed, task by task.

A `draw_` function fills the gaps of a wording at random. An `answer_` function returns every right
answer to what fills them (in full, then the bare word, then others), or None where the world does
not know their meaning.
"""

from __future__ import annotations

from random import Random

from alpagasus_ray.corpus import toytables as tables
from alpagasus_ray.corpus.toywording import Slots, join_words, split_words


def draw_sentence(rng: Random) -> dict[str, str]:
    """Return a sentence of four words, and which of them is asked for."""
    parts = (tables.ADJECTIVES, tables.ACTORS, tables.VERBS, tables.OBJECTS)
    return {
        "which": rng.choice(tables.POSITIONS),
        "sentence": " ".join(rng.choice(words) for words in parts) + ".",
    }


def answer_position(slots: Slots) -> tuple[str, ...] | None:
    """Return the first or the last word of a sentence."""
    words = slots["sentence"].removesuffix(".").split(" ")
    parts = (tables.ADJECTIVES, tables.ACTORS, tables.VERBS, tables.OBJECTS)
    known = len(words) == len(parts) and all(word in part for word, part in zip(words, parts, strict=True))
    if not known or slots["which"] not in tables.POSITIONS:
        return None
    word = words[0 if slots["which"] == "first" else -1].lower()
    return (f"The word is {word}.", word)


def _known_items(text: str) -> list[str] | None:
    items = split_words(text)
    known = len(items) > 1 and len(set(items)) == len(items) and all(item in tables.ITEMS for item in items)
    return items if known else None


def _draw_items(rng: Random, fewest: int, most: int) -> list[str]:
    return rng.sample(tables.ITEMS, rng.randint(fewest, most))


def draw_class(rng: Random) -> dict[str, str]:
    """Return a list of things of one kind."""
    words = tables.KINDS[rng.choice(tuple(tables.KINDS))]
    return {"items": join_words(rng.sample(words, rng.randint(2, 3)))}


def answer_class(slots: Slots) -> tuple[str, ...] | None:
    """Return the kind that all things of a list belong to."""
    items = _known_items(slots["items"])
    for kind, words in tables.KINDS.items():
        if items is not None and set(items) <= set(words):
            plural = kind.split(" ")[1] + "s"
            return (f"They are {plural}.", plural, f"They are all {plural}.")
    return None


def draw_selection(rng: Random) -> dict[str, str]:
    """Return a kind, and a list in which one thing is of that kind."""
    kind = rng.choice(tuple(tables.KINDS))
    others = [item for item in tables.ITEMS if item not in tables.KINDS[kind]]
    items = [rng.choice(tables.KINDS[kind]), *rng.sample(others, 2)]
    rng.shuffle(items)
    return {"kind": kind, "items": join_words(items)}


def answer_selection(slots: Slots) -> tuple[str, ...] | None:
    """Return the one thing of a list that is of a kind."""
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


def draw_sum(rng: Random) -> dict[str, str]:
    """Return two numbers in words."""
    a, b = rng.randint(2, 6), rng.randint(2, 6)  # from two on: a story counts several things
    return {"a": tables.NUMBER_WORDS[a], "b": tables.NUMBER_WORDS[b]}


def answer_sum(slots: Slots) -> tuple[str, ...] | None:
    """Return the sum of two numbers."""
    total = _add(slots)
    if total is None:
        return None
    return (f"The sum is {total}.", total, f"{slots['a']} plus {slots['b']} is {total}")


def draw_story(rng: Random) -> dict[str, str]:
    """Return two numbers of things, and a person who has them."""
    return {**draw_sum(rng), "person": rng.choice(tables.PEOPLE), "goods": rng.choice(tables.GOODS)}


def answer_story(slots: Slots) -> tuple[str, ...] | None:
    """Return how many things there are in all."""
    total = _add(slots)
    if total is None or slots["person"] not in tables.PEOPLE or slots["goods"] not in tables.GOODS:
        return None
    return (f"The answer is {total}.", total, f"{total} {slots['goods']}")


def answer_count(slots: Slots) -> tuple[str, ...] | None:
    """Return how many words a list holds."""
    items = _known_items(slots["items"])
    if items is None or len(items) >= len(tables.NUMBER_WORDS):
        return None
    count = tables.NUMBER_WORDS[len(items)]
    return (f"There are {count} words.", count, str(len(items)), f"There are {len(items)} words")


def draw_count(rng: Random) -> dict[str, str]:
    """Return a list of two to five words."""
    return {"items": join_words(_draw_items(rng, 2, 5))}
