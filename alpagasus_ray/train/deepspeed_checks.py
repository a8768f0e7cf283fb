"""Is a DeepSpeed configuration of a form that a training can be planned and started with? Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from alpagasus_ray.recipe import TrainSettings

SECTIONS = ("zero_optimization", "bf16", "bfloat16", "fp16")
OFFLOADS = ("offload_optimizer", "offload_param")
SIZES = (
    "reduce_bucket_size",
    "allgather_bucket_size",
    "sub_group_size",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_model_persistence_threshold",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
)
"""Of zero_optimization, in parameters."""
SWITCHES = (
    "overlap_comm",
    "contiguous_gradients",
    "reduce_scatter",
    "allgather_partitions",
    "round_robin_gradients",
    "stage3_gather_16bit_weights_on_model_save",
)
DEVICES = ("none", "cpu", "nvme")
AUTO = "auto"


def what_is_wrong(own: Mapping[str, Any], settings: TrainSettings) -> str | None:
    """Return the first thing that DeepSpeed, the plan or the recipe cannot go with; None where there is none.

    `auto` is right everywhere: the recipe's word stands there.
    """
    return next(_wrong(own, settings), None)


def _wrong(own: Mapping[str, Any], settings: TrainSettings) -> Iterator[str]:
    for name in SECTIONS:
        if not isinstance(own.get(name, {}), Mapping):
            yield f"{name} is {_shown(own[name])}: a JSON object is expected"
            return
    yield from _wrong_in_zero(own.get("zero_optimization", {}), settings)
    for name in ("bf16", "bfloat16", "fp16"):
        yield from _wrong_in_precision(name, own.get(name, {}), settings)


def _wrong_in_zero(zero: Mapping[str, Any], settings: TrainSettings) -> Iterator[str]:
    def given(names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        return ((name, zero[name]) for name in names if zero.get(name, AUTO) != AUTO)

    for name, value in given(("stage",)):
        if type(value) is not int or value not in range(4):
            yield f"zero_optimization.{name} is {_shown(value)}: 0, 1, 2 or 3 is expected"
    for name, value in given(SIZES):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value < 0
            or not float(value).is_integer()
        ):
            yield f"zero_optimization.{name} is {_shown(value)}: a count of parameters is expected"
    for name, value in given(SWITCHES):
        if not isinstance(value, bool):
            yield f"zero_optimization.{name} is {_shown(value)}: true or false is expected"
    for name, value in given(OFFLOADS):
        if value is not None:
            yield from _wrong_in_offload(name, value, settings, zero)


def _wrong_in_offload(
    name: str, offload: Any, settings: TrainSettings, zero: Mapping[str, Any]
) -> Iterator[str]:
    where = f"zero_optimization.{name}"
    if not isinstance(offload, Mapping):
        yield f'{where} is {_shown(offload)}: a JSON object is expected, such as {{"device": "cpu"}}'
        return
    device = offload.get("device", AUTO)
    if device not in (*DEVICES, AUTO):
        yield f"{where}.device is {_shown(device)}: {', '.join(DEVICES)} are known"
    if device == "nvme" and not isinstance(offload.get("nvme_path"), str):
        yield f"{where}.device is nvme, and nvme_path, a folder on it, is missing"
    stage = settings.zero_stage if zero.get("stage", AUTO) == AUTO else zero["stage"]
    if name == "offload_param" and device in ("cpu", "nvme") and stage != 3:
        yield f"{where} goes with stage 3, and here it is {stage}: below it each GPU holds all"


def _wrong_in_precision(name: str, section: Mapping[str, Any], settings: TrainSettings) -> Iterator[str]:
    enabled = section.get("enabled", AUTO)
    if enabled == AUTO:
        return
    if not isinstance(enabled, bool):
        yield f"{name}.enabled is {_shown(enabled)}: true or false is expected"
    elif enabled != (settings.precision == name.replace("bfloat16", "bf16")):
        yield (
            f"{name}.enabled is {_shown(enabled)} and train.precision is {settings.precision}: leave {name} "
            "out, and set train.precision (bf16 or fp32)"
        )


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]
