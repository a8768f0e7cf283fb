"""Which rows are trained on when: the same for a seed, whatever the number of workers. Pure."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.packing import pack_best_fit

MicroBatch = Sequence[tuple[int, ...]]
"""Sequences, each one row or several that are packed, as indices of examples."""


@dataclass(frozen=True)
class GlobalBatch:
    """The rows of one optimizer step, dealt out to the workers."""

    micro_batches: tuple[MicroBatch, ...]
    """This worker's. Every worker has equally many, since each forward pass is a collective; a worker short
    of rows gets an empty one."""
    num_target_tokens: int
    """Over all workers: the loss is the mean over these."""
    num_tokens: int
    """Of all workers' rows, prompts included, padding not."""
    num_attended_tokens: int
    """Sum over those tokens of the length of their own row."""


@dataclass(frozen=True)
class BatchPlan:
    """How the rows of a training are cut into optimizer steps."""

    num_examples: int
    global_batch_size: int
    micro_batch_size: int
    """Sequences of one forward pass of one worker: rows, or packs of them."""
    seed: int
    pack_tokens: int | None = None
    """How long a pack of rows may be; None: a sequence is a row."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; the last may be smaller than the others."""
        return math.ceil(self.num_examples / self.global_batch_size)

    def epoch_order(self, epoch: int) -> list[int]:
        """Return the shuffled indices of an epoch."""
        order = list(range(self.num_examples))
        random.Random(f"{self.seed}:{epoch}").shuffle(order)
        return order

    def global_batch(
        self, order: Sequence[int], step: int, examples: Sequence[Example], rank: int, world_size: int
    ) -> GlobalBatch:
        """Return one worker's part of a step of an epoch with this order.

        Sequences of similar length share a micro-batch, so that little is spent on padding, and all workers
        have micro-batches of similar length at a time, and of similar length in all. Which rows are in the
        step does not depend on that, nor on packing, nor on the number of workers.
        """
        start = step * self.global_batch_size
        rows = sorted(order[start : start + self.global_batch_size])
        lengths = [len(examples[index].input_ids) for index in rows]
        sequences = [[place] for place in range(len(rows))]
        if self.pack_tokens is not None:
            sequences = pack_best_fit(lengths, self.pack_tokens)
        sequences.sort(key=lambda places: (sum(lengths[place] for place in places), places))
        num_micro = math.ceil(len(sequences) / (world_size * self.micro_batch_size))
        chunks = _even_chunks(sequences, num_micro * world_size)
        padded = [
            len(chunk) * max((sum(lengths[place] for place in places) for places in chunk), default=0)
            for chunk in chunks
        ]
        return GlobalBatch(
            micro_batches=tuple(
                tuple(tuple(rows[place] for place in places) for places in chunks[number])
                for number in _deal(padded, world_size)[rank]
            ),
            num_target_tokens=sum(examples[index].num_target_tokens for index in rows),
            num_tokens=sum(lengths),
            num_attended_tokens=sum(length**2 for length in lengths),
        )


def _deal(padded_tokens: Sequence[int], world_size: int) -> list[list[int]]:
    """Return for each worker the numbers of its micro-batches, one of each `world_size` neighbours.

    The longest neighbour goes to the worker that has least: on rows like Alpaca's two workers wait for each
    other for 1 to 6 % of a step, and for 5 to 13 % when the last worker gets each longest.
    """
    dealt: list[list[int]] = [[] for _ in range(world_size)]
    tokens = [0] * world_size
    for end in range(len(padded_tokens), 0, -world_size):
        workers = sorted(range(world_size), key=lambda rank: (tokens[rank], rank))
        for rank, number in zip(workers, range(end - 1, end - 1 - world_size, -1), strict=True):
            dealt[rank].insert(0, number)
            tokens[rank] += padded_tokens[number]
    return dealt


def _even_chunks(sequences: Sequence[Sequence[int]], count: int) -> list[Sequence[Sequence[int]]]:
    bounds = [round(number * len(sequences) / count) for number in range(count + 1)]
    return [sequences[start:end] for start, end in itertools.pairwise(bounds)]
