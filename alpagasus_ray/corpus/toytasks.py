"""The kinds of task in the toy world, with their wordings.

A task's wordings are templates. The same templates write prompts and, turned into regular
expressions, read them again, so that a right answer is always computed from a prompt's text alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from alpagasus_ray.corpus import toyanswers as answers
from alpagasus_ray.corpus import toytables as tables
from alpagasus_ray.corpus.toywording import Slots, Task, Wording


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
        answers.draw_sentence,
        answers.answer_position,
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
        answers.draw_class,
        answers.answer_class,
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
        answers.draw_selection,
        answers.answer_selection,
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
        answers.draw_sum,
        answers.answer_sum,
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
        answers.draw_story,
        answers.answer_story,
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
        answers.draw_count,
        answers.answer_count,
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
