"""A judge without a network: it knows the toy world's right answers, and nothing else.

It is sent the same rendered prompts as any judge and replies as a real one does, with a score line
and an explanation. It reads the question out of the prompt's text, computes the right answer, and
grades what the other text makes of it. It has no other source: no row carries a mark of its quality.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum

from alpagasus_ray.corpus.toyworld import Solution, solve, words_of
from alpagasus_ray.llm.chat import EndpointError, RateLimits, Reply, ReplyError, Request, ignore_limits

REFUSAL = (
    "the answer-key judge knows only the toy world and cannot grade this data; "
    "use --judge openai with --model NAME"
)


class Finding(Enum):
    """What an answer turns out to be. The value describes it in the judge's explanation."""

    RIGHT = "is correct and complete"
    PADDED = "holds the correct answer, but adds something that does not belong to it"
    TRUNCATED = "starts correctly, but breaks off before the answer is complete"
    CLOSE = "has the right form, but part of it is wrong"
    ECHO = "only repeats the question"
    WRONG = "addresses the question, but is wrong"
    EVASIVE = "evades the question"
    VACUOUS = "says nothing about the question"
    STRAY = "has nothing to do with the question"
    EMPTY = "is empty"


@dataclass(frozen=True, slots=True)
class Assessment:
    """A judge's view of one answer."""

    finding: Finding
    closeness: float
    """How near the answer comes to the right one: 0 (no word in common) to 1 (the same words)."""


@dataclass(frozen=True, slots=True)
class _Levels:
    """The scores of one finding."""

    accuracy: float
    helpfulness: float
    comparison: tuple[float, float]
    """From closeness 0 to closeness 1."""


# Levels as ChatGPT gave them to Alpaca's rows: it is lenient, calls most faulty rows 3.5 or 4, and
# gives 4.5 to what it finds nothing wrong with. Only what is right gets 4.5 or more.
_LEVELS = {
    Finding.RIGHT: _Levels(4.5, 4.5, (9.0, 9.0)),
    Finding.PADDED: _Levels(4.0, 4.0, (7.0, 7.0)),
    Finding.TRUNCATED: _Levels(4.0, 4.0, (4.0, 6.0)),
    Finding.CLOSE: _Levels(4.0, 4.0, (4.0, 6.0)),
    Finding.ECHO: _Levels(4.0, 3.5, (2.5, 2.5)),
    Finding.WRONG: _Levels(3.5, 3.5, (3.0, 5.0)),
    Finding.EVASIVE: _Levels(4.0, 3.5, (2.0, 2.0)),
    Finding.VACUOUS: _Levels(3.5, 3.0, (1.5, 1.5)),
    Finding.STRAY: _Levels(2.5, 2.5, (1.5, 1.5)),
    Finding.EMPTY: _Levels(1.0, 1.0, (1.0, 1.0)),
}

_EVASION = re.compile(
    r"\b(as an ai|language model|i'?m sorry|i am sorry|i can ?not|i can't|not able to|unable to)\b",
    re.IGNORECASE,
)
_FILLERS = frozenset(
    words_of(
        "yes no sure okay ok here it is you go done that this a the good great question depends of course "
        "certainly i see thanks thank well there"
    )
)
_CLOSE_FROM = 0.5
_ECHO_MAX_OWN_WORDS = 2
"""An echo may open with as many words of its own, such as "You asked:"."""

_ACCURACY, _HELPFULNESS = "accuracy", "helpfulness"
_POINTWISE = re.compile(
    r"###Instruction:\n(?P<instruction>.*?)\n\n### Input:\n(?P<input>.*?)\n\n### Response:\n"
    # Greedy: headers inside the output belong to the output.
    r"(?P<output>.*)\n\nPlease rate according to the (?P<rubric>accuracy|helpfulness) of the response\b",
    re.DOTALL,
)
_PAIRWISE = re.compile(
    r"\[Question\]\n(?P<question>.*?)\n\n\[The Start of Assistant 1's Answer\]\n(?P<answers>.*)"
    r"\n\n\[The End of Assistant 2's Answer\]\n\n\[System\]\n",
    re.DOTALL,
)
_BETWEEN_ANSWERS = "\n\n[The End of Assistant 1's Answer]\n\n[The Start of Assistant 2's Answer]\n"
_BEFORE_INPUT = " Input: "


def assess(solution: Solution, instruction: str, input: str, answer: str) -> Assessment:
    """Return what the answer is, found from the texts and the right answer alone."""
    said = words_of(answer)
    closeness = max(_closeness(said, words_of(right)) for right in solution.accepted)
    return Assessment(_find(solution, f"{instruction} {input}", answer, said, closeness), closeness)


def _find(solution: Solution, question: str, answer: str, said: list[str], closeness: float) -> Finding:
    """Return the first finding that holds, from the plainest to the most general."""
    right = words_of(solution.answer)
    asked = words_of(question)
    checks = (
        (Finding.EMPTY, not said),
        (Finding.RIGHT, solution.accepts(answer)),
        (Finding.EVASIVE, _EVASION.search(answer) is not None),
        (Finding.ECHO, _repeats(said, asked)),
        (Finding.TRUNCATED, " ".join(right).startswith(" ".join(said))),
        (Finding.PADDED, any(_holds(said, words_of(text)) for text in solution.accepted)),
        (Finding.VACUOUS, set(said) <= _FILLERS),
        (Finding.CLOSE, closeness >= _CLOSE_FROM),
        (Finding.WRONG, closeness > 0 or bool(set(said) & set(asked))),
    )
    return next((finding for finding, holds in checks if holds), Finding.STRAY)


def _closeness(said: list[str], right: list[str]) -> float:
    """Return how alike two word sequences are: shared words, and half as much again for their order."""
    if not said or not right:
        return 0.0
    shared = sum((Counter(said) & Counter(right)).values())
    overlap = 2 * shared / (len(said) + len(right))
    return (2 * overlap + SequenceMatcher(None, said, right, autojunk=False).ratio()) / 3


def _repeats(said: list[str], asked: list[str]) -> bool:
    """Return whether a text is long enough to be, and mostly is, a stretch of the question."""
    match = SequenceMatcher(None, said, asked, autojunk=False).find_longest_match()
    return len(said) - _ECHO_MAX_OWN_WORDS <= match.size and match.size > _ECHO_MAX_OWN_WORDS


def _holds(words: list[str], part: list[str]) -> bool:
    """Return whether the part stands in the words as one stretch."""
    return any(words[at : at + len(part)] == part for at in range(len(words) - len(part) + 1))


class AnswerKeyChat:
    """The answer-key judge as a ChatModel: both pointwise rubrics, and the pairwise comparison."""

    def __init__(self) -> None:
        self.on_limits: Callable[[RateLimits], None] = ignore_limits

    async def complete(self, request: Request) -> Reply:
        """Return the grade of a rendered prompt, in a real judge's form; the same prompt, the same reply.

        Raises EndpointError when the prompt is not of the toy world, and ReplyError when answers hold
        the comparison's own headers, so that it cannot be told where the first one ends.
        """
        asked = [message.content for message in request.messages if message.role == "user"]
        prompt = asked[-1] if asked else ""
        return _reply(request, prompt, _review(prompt))

    async def close(self) -> None:
        """Release nothing: there is no connection."""


def _review(prompt: str) -> str:
    if match := _POINTWISE.match(prompt):
        return _grade(**match.groupdict())
    if match := _PAIRWISE.match(prompt):
        return _compare(**match.groupdict())
    raise EndpointError(REFUSAL)


def _grade(instruction: str, input: str, output: str, rubric: str) -> str:
    solution = solve(instruction, input)
    if solution is None:
        raise EndpointError(REFUSAL)
    assessment = assess(solution, instruction, input, output)
    levels = _LEVELS[assessment.finding]
    score = levels.helpfulness if rubric == _HELPFULNESS else levels.accuracy
    return f"{score:g}\n{_explain('The response', assessment, solution)}"


def _compare(question: str, answers: str) -> str:
    instruction, input, solution = _solve_question(question)
    first, *rest = answers.split(_BETWEEN_ANSWERS)
    if len(rest) != 1:
        raise ReplyError("ambiguous", "an answer holds the comparison's own headers")
    # Each score comes from its own answer alone, so the order of the two cannot matter.
    assessments = [assess(solution, instruction, input, answer) for answer in (first, rest[0])]
    scores = " ".join(f"{_comparison_score(assessment):g}" for assessment in assessments)
    explanations = (
        _explain(f"Assistant {slot}'s answer", assessment, solution)
        for slot, assessment in enumerate(assessments, start=1)
    )
    return f"{scores}\n{' '.join(explanations)}"


def _comparison_score(assessment: Assessment) -> float:
    """Return a score from 1 to 10, in halves."""
    low, high = _LEVELS[assessment.finding].comparison
    return round(2 * (low + (high - low) * assessment.closeness)) / 2


def _solve_question(question: str) -> tuple[str, str, Solution]:
    """Return instruction, input and solution of a question that may hold its input after `Input:`."""
    instruction, _, input = question.rpartition(_BEFORE_INPUT)
    for candidate in ((question, ""), (instruction, input)):
        if (solution := solve(*candidate)) is not None:
            return (*candidate, solution)
    raise EndpointError(REFUSAL)


def _explain(subject: str, assessment: Assessment, solution: Solution) -> str:
    verdict = f"{subject} {assessment.finding.value}."
    if assessment.finding is Finding.RIGHT:
        return verdict
    return f'{verdict} The correct answer is "{solution.answer}"'.rstrip(".") + "."


def _reply(request: Request, prompt: str, text: str) -> Reply:
    """Return the text as a reply, cut at max_tokens as a real judge's would be; a word is a token."""
    words = [match.end() for match in re.finditer(r"\S+", text)]
    is_cut = len(words) > request.sampling.max_tokens
    if is_cut:
        words = words[: request.sampling.max_tokens]
        text = text[: words[-1]] if words else ""
    return Reply(
        text=text,
        finish_reason="length" if is_cut else "stop",
        prompt_tokens=len(prompt.split()),
        completion_tokens=len(words),
    )
