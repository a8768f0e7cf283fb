"""The tokens of many prompts, and of replies that nobody has seen yet. Pure."""

from __future__ import annotations

from collections.abc import Callable

from alpagasus_ray.llm.chat import Request
from alpagasus_ray.llm.token_counts import TokenCounter
from alpagasus_ray.recipe import JudgeSettings

SAMPLE_SIZE = 2_500
"""Texts whose tokens are counted, up to twice as many; the others' follow from their length."""
CHARACTERS_PER_TOKEN = 4.7
"""Of English under cl100k_base: 4.9 for Alpaca, 4.5 for Dolly."""
ROUGH_ANSWERS = "rough: answers as long as the data's outputs"
"""How prompts were counted that hold answers which nobody has given yet, in words."""


class SampledSum:
    """The tokens of many texts: counted in an even sample of them, the rest by their length.

    When the sample is full every other text is dropped from it and only every other one is taken in.
    """

    def __init__(self) -> None:
        self.num_texts = self._characters = 0
        self._sample: list[tuple[int, float]] = []
        self._stride = 1

    def add(self, characters: int, count: Callable[[], float]) -> None:
        """Take in a text of so many characters; `count` is called for its tokens if it is sampled."""
        if self.num_texts % self._stride == 0:
            self._sample.append((characters, count()))
            if len(self._sample) == 2 * SAMPLE_SIZE:
                self._sample = self._sample[::2]
                self._stride *= 2
        self.num_texts += 1
        self._characters += characters

    def add_prompt(self, request: Request, counter: TokenCounter) -> None:
        """Take in the prompt of a request."""
        characters = sum(len(message.content) for message in request.messages)
        self.add(characters, lambda: counter.count(request))

    @property
    def tokens(self) -> float:
        """The tokens of all texts."""
        characters = sum(characters for characters, _ in self._sample)
        tokens = sum(tokens for _, tokens in self._sample)
        return tokens * self._characters / characters if characters else tokens


def assumed_reply(tokens: int, settings: JudgeSettings) -> tuple[float, str]:
    """Return how many tokens a reply is taken to have, no more than a judge may write, and that in words."""
    tokens = min(tokens, settings.max_tokens)
    return tokens, f"{tokens} a reply assumed"
