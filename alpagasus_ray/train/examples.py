"""From rows to token ids: prompt tokens masked, the target ending in EOS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.triplets import parse_triplet


@dataclass(frozen=True, slots=True)
class Example:
    """One training example."""

    input_ids: tuple[int, ...]
    """Prompt and target, at most max_length_tokens."""
    num_prompt_tokens: int
    """The tokens at the start that the loss does not count."""

    @property
    def num_target_tokens(self) -> int:
        """The tokens that the loss counts."""
        return len(self.input_ids) - self.num_prompt_tokens


def build_examples(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_length_tokens: int, form: RowForm = ALPACA
) -> tuple[list[Example], dict[str, int]]:
    """Return the examples of these rows in order, and how many were dropped by reason.

    `form` says where the rows of train.json hold their texts: the corpus read them the same way.
    A row whose prompt alone fills max_length_tokens would train on nothing (the original trained on
    such rows all the same): it is dropped.
    """
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        triplet = parse_triplet(row, form)
        prompt = render_prompt(triplet.instruction, triplet.input)
        example = _example(prompt, triplet.output, tokenizer, max_length_tokens)
        if example.num_target_tokens <= 0:
            dropped["prompt fills max_length_tokens"] += 1
        else:
            examples.append(example)
    return examples, dict(dropped)


def _example(prompt: str, target: str, tokenizer: Any, max_length_tokens: int) -> Example:
    """Tokenise as generation will: the prompt's ids must be what the endpoint sees for it.

    Prompt and target are one string in training. Where a token would span their border, the two are
    tokenised apart, since in generation the prompt always ends there.
    """
    prompt_ids = _without_end(tokenizer(prompt)["input_ids"], tokenizer)
    together = _without_end(tokenizer(prompt + target)["input_ids"], tokenizer)
    if together[: len(prompt_ids)] != prompt_ids:
        together = prompt_ids + tokenizer(target, add_special_tokens=False)["input_ids"]
    ids = [*together, tokenizer.eos_token_id][:max_length_tokens]
    return Example(tuple(ids), min(len(prompt_ids), len(ids)))


def _without_end(ids: list[int], tokenizer: Any) -> list[int]:
    """Return ids without the EOS that some tokenizers append to every text."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
