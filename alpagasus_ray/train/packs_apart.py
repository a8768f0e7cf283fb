"""Whether rows in a pack are kept apart: some models look across, whatever their positions say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.collate import collate
from alpagasus_ray.train.engines.base import evaluating
from alpagasus_ray.train.examples import Example

PROBE_TOKENS = 8
ROUNDING = 1e-5
"""Of the largest logit. What is masked counts as 0 exactly, and both passes are of one form."""


def is_packed(settings: TrainSettings, device: torch.device) -> bool:
    """Return what train.packing means on a device: where nothing is said, GPUs pack."""
    return device.type != "cpu" if settings.packing is None else settings.packing


def with_packing(
    model: Any, examples: Sequence[Example], settings: TrainSettings, device: torch.device
) -> TrainSettings:
    """Return the settings with packing true or false: true only for a model that keeps packed rows apart.

    Raises UserError where the recipe wants rows packed, and the model would let them see each other.
    """
    packs = is_packed(settings, device) and keeps_apart(model, examples)
    if settings.packing and not packs:
        raise UserError(
            f"train.packing: {model.config.model_type} lets the rows of a pack see each other (it does not "
            "go by their positions): set train.packing=false"
        )
    return settings.model_copy(update={"packing": packs})


@torch.no_grad()
def keeps_apart(model: Any, examples: Sequence[Example]) -> bool:
    """Return whether a model says the same of an example in a pack, whichever row comes before it."""
    probe = Example(examples[0].input_ids[-PROBE_TOKENS:], 0)
    device = next(model.parameters()).device
    said = []
    with evaluating(model):
        for first_id in (1, 1 + PROBE_TOKENS):  # any tokens will do
            before = Example(tuple(range(first_id, first_id + PROBE_TOKENS)), 0)
            batch = collate([before, probe], ((0, 1),), 0, device)
            batch.pop("labels")
            said.append(model(**batch, use_cache=False).logits[0, PROBE_TOKENS:].float())
    return bool((said[0] - said[1]).abs().max() <= ROUNDING * said[0].abs().max())
