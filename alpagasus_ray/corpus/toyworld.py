"""The toy world: instruction data whose right answers can be computed, made from a seed.

It stands in for Alpaca's data where a whole run has to fit in minutes and has to be checked. Rows
carry no mark of which are good: that can be found out only by solving the prompt, with `solve`.

Whether a prompt belongs to the training data or to the test sets is decided by a hash of its text,
so that no training set, whatever its seed and size, holds a test prompt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from alpagasus_ray.corpus.toyfaults import Spoiling, spoil
from alpagasus_ray.corpus.toytasks import FACTS, LISTS, NUMBERS, OPENINGS, TASKS, WORDS
from alpagasus_ray.corpus.toywording import Task

DEFAULT_GOOD_SHARE = 0.18
"""Alpaca's: 9,229 of its 52,002 rows were graded 4.5 or more."""

TESTSET_NAMES = (WORDS, LISTS, NUMBERS, FACTS)

_TEST_PROMPTS_IN = 6
"""One prompt in so many belongs to the test sets."""
_PLAIN_SHARE = 0.4
"""The share of prompts that begin with no opening."""
_CARRIERS = ("The answer is", "It is", "They are")
"""What a bare answer may be led in with."""
_MAX_DRAWS = 2_000
"""So many draws in a row without a new prompt mean that the world holds no more of them."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What is right for one prompt of the toy world."""

    answer: str
    """The right answer in full."""
    accepted: tuple[str, ...]
    """Every right answer: the full one first, then the bare word, then other ways to put it."""
    category: str
    """The kind of task."""
    testset: str
    """The test set that asks for this kind of task."""

    def accepts(self, text: str) -> bool:
        """Return whether the text is a right answer; capitals and punctuation do not matter."""
        said = words_of(text)
        led_in = [f"{carrier} {self.accepted[1]}" for carrier in _CARRIERS]
        return any(said == words_of(answer) for answer in (*self.accepted, *led_in))


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation.

    >>> words_of("The capital of Peru is Lima.")
    ['the', 'capital', 'of', 'peru', 'is', 'lima']
    """
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.casefold())


def solve(instruction: str, input: str = "") -> Solution | None:
    """Return the right answer to a prompt, read from its text alone; None when it is not of this world.

    >>> solve("What is the capital of Peru?").answer
    'The capital is Lima.'
    >>> solve("Which of these is a fruit?", "saw, pear, dog").accepts("pear")
    True
    >>> solve("Write a poem about the sea.")
    """
    instruction, input = instruction.strip(), input.strip()
    for opening in OPENINGS:
        if instruction.startswith(opening) and (found := _solve_plain(instruction[len(opening) :], input)):
            return found
    return None


def _solve_plain(instruction: str, input: str) -> Solution | None:
    for task in TASKS:
        for wording in task.wordings:
            slots = wording.read(instruction, input)
            accepted = None if slots is None else task.answer(slots)
            if accepted is not None:
                return Solution(accepted[0], accepted, task.category, task.testset)
    return None


def generate_rows(
    num_rows: int, good_share: float = DEFAULT_GOOD_SHARE, seed: int = 0
) -> list[dict[str, str]]:
    """Return training rows of the Alpaca form: instruction, input, output, category.

    Of them, `good_share` (between 0 and 1, rounded to whole rows) hold the right answer; the others
    are evasive, empty of content, cut, echoing or wrong. No prompt occurs twice. Raises ValueError
    when the world holds too few prompts or the share is out of range.
    """
    if not 0 <= good_share <= 1:
        raise ValueError(f"good_share is {good_share}; it has to lie between 0 and 1")
    rng = Random(f"rows {seed}")
    prompts = _take(num_rows, _draw_prompts(rng, TASKS, is_test=False))
    good = set(rng.sample(range(num_rows), round(num_rows * good_share)))
    return [
        {
            "instruction": prompt.instruction,
            "input": prompt.input,
            "output": prompt.solution.answer if at in good else _spoilt_output(prompt, rng),
            "category": prompt.solution.category,
        }
        for at, prompt in enumerate(prompts)
    ]


def generate_testsets(prompts_per_set: int, seed: int = 0) -> dict[str, list[dict[str, str]]]:
    """Return the four test sets by name; each prompt has id, instruction, input, category.

    No prompt of theirs occurs in the training rows of any seed or size. Raises ValueError when the
    world holds too few prompts.
    """
    testsets: dict[str, list[dict[str, str]]] = {}
    for name in TESTSET_NAMES:
        tasks = tuple(task for task in TASKS if task.testset == name)
        prompts = _take(prompts_per_set, _draw_prompts(Random(f"{name} {seed}"), tasks, is_test=True))
        testsets[name] = [
            {
                "id": f"{name}-{number}",
                "instruction": prompt.instruction,
                "input": prompt.input,
                "category": prompt.solution.category,
            }
            for number, prompt in enumerate(prompts, start=1)
        ]
    return testsets


def is_test_prompt(instruction: str, input: str) -> bool:
    """Return whether a prompt belongs to the test sets, by its text alone."""
    digest = hashlib.blake2b(f"{instruction}\n{input}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _TEST_PROMPTS_IN == 0


@dataclass(frozen=True, slots=True)
class _Prompt:
    task: Task
    instruction: str
    input: str
    solution: Solution


def _draw_prompt(rng: Random, tasks: tuple[Task, ...]) -> _Prompt:
    # A category may hold two tasks: each category is as likely as the next.
    category = rng.choice(sorted({task.category for task in tasks}))
    task = rng.choice([task for task in tasks if task.category == category])
    slots = task.draw(rng)
    instruction, input = rng.choice(task.wordings).fill(slots)
    if rng.random() > _PLAIN_SHARE:
        instruction = rng.choice(OPENINGS[1:]) + instruction
    accepted = task.answer(slots)
    assert accepted is not None, f"{task.category} cannot answer its own prompt: {instruction!r}"
    return _Prompt(task, instruction, input, Solution(accepted[0], accepted, task.category, task.testset))


def _draw_prompts(rng: Random, tasks: tuple[Task, ...], *, is_test: bool) -> Iterator[_Prompt]:
    """Yield prompts of one side, each once, until the world seems to hold no more."""
    seen: set[tuple[str, str]] = set()
    draws_since_new = 0
    while draws_since_new < _MAX_DRAWS:
        prompt = _draw_prompt(rng, tasks)
        text = (prompt.instruction, prompt.input)
        draws_since_new += 1
        if text not in seen and is_test_prompt(*text) == is_test:
            seen.add(text)
            draws_since_new = 0
            yield prompt


def _take(number: int, prompts: Iterator[_Prompt]) -> list[_Prompt]:
    taken = [prompt for _, prompt in zip(range(number), prompts, strict=False)]
    if len(taken) < number:
        raise ValueError(f"{number} prompts are asked for; the toy world has about {len(taken)} of them")
    return taken


def _spoilt_output(prompt: _Prompt, rng: Random) -> str:
    """Return an output with one of the faults, and never a right one."""
    elsewhere = tuple(task for task in TASKS if task.category != prompt.solution.category)

    def attempt() -> str:
        return spoil(
            Spoiling(
                instruction=prompt.instruction,
                input=prompt.input,
                right=prompt.solution.answer,
                other=_draw_prompt(rng, (prompt.task,)).solution.answer,
                foreign=_draw_prompt(rng, elsewhere).solution.answer,
            ),
            rng,
        )

    return _first(attempt, lambda output: not prompt.solution.accepts(output))


def _first(draw: Callable[[], str], is_wanted: Callable[[str], bool]) -> str:
    while not is_wanted(text := draw()):
        pass
    return text
