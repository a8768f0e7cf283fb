"""What DeepSpeed is told: made from the recipe, with a JSON of the user's own laid over it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.text_files import read_text

OURS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "managed_gradient_accumulation",
    "gradient_clipping",
    "optimizer",
    "scheduler",
)
"""Keys that the recipe's own settings decide: a second place for them could only contradict the first."""


def read_deepspeed_config(file: str | None) -> dict[str, Any]:
    """Return the user's own DeepSpeed JSON, empty where there is none.

    Raises UserError for a file that is none, and for keys that the recipe decides (where their value is not
    `auto`, which the Hugging Face Trainer's files have there).
    """
    if file is None:
        return {}
    try:
        values = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file}: no JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: a DeepSpeed configuration is a JSON object")
    if taken := [name for name in OURS if values.get(name, "auto") not in ("auto", {})]:
        raise UserError(f"{file}: {', '.join(taken)}: the recipe's train section decides this; leave it out")
    return {name: value for name, value in values.items() if name not in OURS and value != "auto"}


def deepspeed_config(settings: TrainSettings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole configuration for deepspeed.initialize; `own` is laid over what the recipe says."""
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False}
    if settings.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if settings.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    made: dict[str, Any] = {
        # Only DeepSpeed's own counters look at these: the loop knows how many passes a step has.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # A backward pass adds gradients; step() reduces, clips and updates. As the loop has it.
        "managed_gradient_accumulation": False,
        "gradient_clipping": settings.max_gradient_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": settings.precision == "bf16"},
        # The optimizer is torch's AdamW, the same as with every other strategy.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }
    return _merged(made, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return {name: value for name, value in merged.items() if value != "auto"}
