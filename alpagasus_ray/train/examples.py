"""From rows to token ids: prompt tokens masked, the target ending in the token that ends an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from alpagasus_ray.corpus.row_forms import ALPACA, RejectedRowError, RowForm
from alpagasus_ray.corpus.triplets import Triplet, parse_triplet
from alpagasus_ray.train.prompting import PROMPTINGS, Prompting


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


class ExampleSequence(Sequence[Example], ABC):
    """Examples that are made when they are asked for; they may be too many to hold."""

    @abstractmethod
    def at(self, place: int) -> Example:
        """Return one example; raises IndexError beyond the last."""

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Return one example, or a list of several."""
        if isinstance(index, slice):
            return [self.at(place) for place in range(len(self))[index]]
        return self.at(index)


def build_examples(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    max_length_tokens: int,
    form: RowForm = ALPACA,
    template: str = "alpaca",
) -> tuple[list[Example], dict[str, int]]:
    """Return the examples of these rows in order, and how many were dropped by reason; see each_example."""
    made = list(each_example(rows, tokenizer, max_length_tokens, form, template))
    dropped = Counter(one for one in made if isinstance(one, str))
    return [one for one in made if isinstance(one, Example)], dict(dropped)


def each_example(
    rows: Iterable[Mapping[str, Any]], tokenizer: Any, max_length_tokens: int, form: RowForm, template: str
) -> Iterator[Example | str]:
    """Yield the example of each row, or the reason for which there is none.

    `form` says where the rows of train.json hold their texts: the corpus read them the same way.
    A row whose prompt alone fills max_length_tokens would train on nothing (the original trained on
    such rows all the same): it is dropped, and so is one whose output is empty.
    """
    prompting = PROMPTINGS[template](tokenizer)
    for row in rows:
        try:
            ids, num_prompt_tokens = example_ids(parse_triplet(row, form), tokenizer, prompting)
        except RejectedRowError as error:
            yield str(error)
            continue
        if num_prompt_tokens >= max_length_tokens:
            yield "prompt fills max_length_tokens"
        else:
            yield Example(tuple(ids[:max_length_tokens]), num_prompt_tokens)


def example_ids(triplet: Triplet, tokenizer: Any, prompting: Prompting) -> tuple[list[int], int]:
    """Return all ids of an example, however long, and how many are the prompt's.

    Tokenised as generation will: the prompt's ids must be what the endpoint sees for it. Prompt and target
    are one string in training. Where a token would span their border, the two are tokenised apart, since in
    generation the prompt always ends there.

    Raises RejectedRowError as Prompting.texts does.
    """
    prompt, target = prompting.texts(triplet)
    prompt_ids = prompting.ids(prompt)
    together = prompting.ids(prompt + target)
    if together[: len(prompt_ids)] != prompt_ids:
        together = prompt_ids + tokenizer(target, add_special_tokens=False)["input_ids"]
    return [*together, prompting.end_id], len(prompt_ids)
