"""Rows that are held out of training, to see the loss on what was never trained on. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.examples import Example, ExampleSequence


def num_held_out(num_examples: int, share: float) -> int:
    """Return how many examples a share is: at least one, where it is above 0.

    Raises UserError where nothing is left to train on.
    """
    count = max(1, round(share * num_examples)) if share > 0 else 0
    if count and count >= num_examples:
        raise UserError(
            f"train.validation_share {share:g} holds out all of {num_examples} rows: set a smaller one"
        )
    return count


class Chosen(ExampleSequence):
    """Some of the examples, where they are."""

    def __init__(self, examples: Sequence[Example], places: Sequence[int]) -> None:
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    def at(self, place: int) -> Example:
        """Return one example; raises IndexError beyond the last."""
        return self._examples[self._places[place]]


def hold_out(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return the examples to train on, and those that are held out; both in their order.

    Which these are depends on the seed and the examples alone. Copies of an example stay together, so that
    none is trained on that is held out; with them it may be a few more than the share. Raises UserError
    where nothing is left to train on.
    """
    wanted = num_held_out(len(examples), share)
    if not wanted:
        return examples, ()
    # Of whole numbers alone, so it is the same in every process; two examples that share it stay together.
    keys = [hash(example) for example in examples]
    copies = Counter(keys)
    distinct = list(copies)
    random.Random(f"{seed}:validation").shuffle(distinct)
    chosen: set[int] = set()
    while wanted > 0:
        key = distinct.pop()
        chosen.add(key)
        wanted -= copies[key]
    training = [place for place, key in enumerate(keys) if key not in chosen]
    if not training:
        raise UserError(f"train.validation_share {share:g} holds out every row: they are all alike")
    held_out = [place for place, key in enumerate(keys) if key in chosen]
    return Chosen(examples, training), Chosen(examples, held_out)
