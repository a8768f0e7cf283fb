"""From examples to the tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alpagasus_ray.train.batches import MicroBatch
from alpagasus_ray.train.examples import Example

IGNORED = -100
"""The label of tokens that the loss does not count (torch's default)."""


def collate(
    examples: Sequence[Example], micro_batch: MicroBatch, pad_token_id: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return input_ids, position_ids and labels, each (sequences, tokens), padded on the right.

    No attention mask is needed: padding comes last, where a causal model's real tokens cannot see it, and
    an example in a pack starts again at position 0, by which transformers keeps its tokens from seeing the
    examples before it (masking_utils.find_packed_sequence_indices). Labels stand at their own token's
    place; those of prompts, padding and of each example's first token are IGNORED.

    An empty micro-batch becomes one sequence without targets: it adds nothing, but every worker has to take
    part in every forward and backward pass.
    """
    nothing = Example((pad_token_id, pad_token_id), 2)
    packs = [[examples[index] for index in sequence] for sequence in micro_batch] or [[nothing]]
    length = max(sum(len(example.input_ids) for example in pack) for pack in packs)
    input_ids = torch.full((len(packs), length), pad_token_id)
    labels = torch.full((len(packs), length), IGNORED)
    position_ids = torch.zeros((len(packs), length), dtype=torch.long)
    for row, pack in enumerate(packs):
        start = 0
        for example in pack:
            ids = torch.tensor(example.input_ids)
            end = start + len(ids)
            input_ids[row, start:end] = ids
            first_target = max(1, example.num_prompt_tokens)  # the first token has none before it
            labels[row, start + first_target : end] = ids[first_target:]
            # To the end, so that padding goes on where the last example ends: no further boundary.
            position_ids[row, start:] = torch.arange(length - start)
            start = end
    batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}
