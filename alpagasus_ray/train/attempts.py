"""Which training a checkpoint is of. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alpagasus_ray.recipe import TrainSettings


def attempt_settings(settings: TrainSettings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint hangs on besides base model and rows; `own` is the user's DeepSpeed JSON.

    Each strategy has checkpoints of its own form; other workers or micro-batches can go on from them, and
    whether adapters are merged is seen to at the end.
    """
    shaping = settings.shapes_result()
    if shaping["lora"] is not None:
        shaping["lora"] = {name: value for name, value in shaping["lora"].items() if name != "merge"}
    return {**shaping, "strategy": settings.strategy, **({"deepspeed": dict(own)} if own else {})}
