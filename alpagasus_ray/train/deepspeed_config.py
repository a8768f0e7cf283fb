"""What DeepSpeed is told: made from the recipe, with a JSON of the user's own laid over it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.text_files import read_text
from alpagasus_ray.train.deepspeed_checks import AUTO, what_is_wrong
from alpagasus_ray.train.deepspeed_presets import PRESETS

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


def read_deepspeed_config(settings: TrainSettings) -> dict[str, Any]:
    """Return the user's own DeepSpeed JSON, or the published one of this name; empty where there is none.

    Raises UserError for a file that is none, or of another form, and for keys that the recipe decides (where
    their value is not `auto`, which the Hugging Face Trainer's files have there).
    """
    name = settings.deepspeed_config
    if name is None:
        return {}
    if name in PRESETS:
        return checked_deepspeed_config(PRESETS[name], settings, name)
    if not Path(name).exists() and Path(name).suffix != ".json":
        raise UserError(f"train.deepspeed_config: there is no file {name}.{nearest(name, PRESETS)}")
    try:
        values = json.loads(read_text(name))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name}: no JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    return checked_deepspeed_config(values, settings, name)


def checked_deepspeed_config(values: Any, settings: TrainSettings, source: str) -> dict[str, Any]:
    """Return what of a DeepSpeed configuration is laid over the recipe.

    Raises UserError, which names the `source`, for one that cannot be.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: a DeepSpeed configuration is a JSON object")
    if taken := [name for name in OURS if values.get(name, AUTO) not in (AUTO, {})]:
        raise UserError(
            f"{source}: {', '.join(taken)}: the recipe's train section decides this; leave it out"
        )
    own = {name: value for name, value in values.items() if name not in OURS and value != AUTO}
    if wrong := what_is_wrong(own, settings):
        raise UserError(f"{source}: {wrong}")
    return own


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


def offloaded(settings: TrainSettings, own: Mapping[str, Any]) -> str:
    """Return what waits in the hosts' memory, in the recipe's words; a JSON of one's own has the last one."""
    if settings.strategy != "deepspeed":
        return settings.offload
    zero = deepspeed_config(settings, own)["zero_optimization"]
    for part, word in (("offload_param", "parameters"), ("offload_optimizer", "optimizer")):
        if is_offloaded(zero, part):
            return word
    return "none"


def is_offloaded(zero: Mapping[str, Any], part: str) -> bool:
    """Return whether a part (offload_param, offload_optimizer) is anywhere but on the GPU."""
    return bool((zero.get(part) or {}).get("device", "none") != "none")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one object laid over another, at all depths; what is `auto` above stays as it is below."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = _merged(inner if isinstance(inner, Mapping) else {}, value)
        elif value != AUTO:
            merged[name] = value
    return merged
