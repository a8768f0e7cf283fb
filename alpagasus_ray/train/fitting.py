"""Does a training fit a GPU, and what would make it fit. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from alpagasus_ray.recipe import LoraSettings, TrainSettings
from alpagasus_ray.train.gpus import Gpu
from alpagasus_ray.train.memory import GIB, Memory

SHORT_TOKENS = 256
"""The shortest max_length_tokens of the published recipes: below it most of Alpaca's answers are cut."""


def fit_warning(
    settings: TrainSettings, name: str, gpu: Gpu, memory_with: Callable[[TrainSettings], Memory]
) -> str | None:
    """Return one line on a training that does not fit a GPU, with what would fit; None where it fits.

    `memory_with` works out the memory under other settings.
    """
    memory = memory_with(settings)
    if memory.peak <= gpu.memory_gib * GIB:
        return None
    room = gpu.memory_gib * GIB
    fitting = []
    for group in _remedies(settings):
        needed = ((words, changed, memory_with(changed)) for words, changed in group)
        fitting += [_told(*one) for one in needed if one[-1].peak <= room][:1]
    when = "while the model is loaded" if memory.peak > memory.total else "in training"
    told = f"{memory.peak / GIB:.0f} GiB {when} do not fit the {gpu.memory_gib:g} GiB of {name}: "
    if fitting:
        return f"{told}it would fit with {', or '.join(fitting)}"
    return (
        f"{told}none of a smaller micro_batch_size, activation_checkpointing, more workers, offload and lora "
        "is enough by itself; put several together, or name a larger --gpu"
    )


def _told(words: str, changed: TrainSettings, memory: Memory) -> str:
    """Return a remedy with what it takes on each GPU, and where it moves that to the hosts, what there."""
    hosts = f", {changed.workers * memory.host / GIB:.0f} in the hosts" if changed.offload != "none" else ""
    return f"{words} ({memory.peak / GIB:.0f} GiB{hosts})"


def out_of_memory_line(settings: TrainSettings, where: str, when: str, on_gpu: bool) -> str:
    """Return one line on a training that ran out of memory, with what takes less of it.

    `when` is a point of the training: `at step 3`.
    """
    groups = [[word for word, _ in group if on_gpu or _helps_a_host(word)] for group in _remedies(settings)]
    words = [group[0] for group in groups if group]
    if settings.max_length_tokens > SHORT_TOKENS:
        words.append("a smaller train.max_length_tokens (another training: long rows are cut)")
    advice = f"try {', or '.join(words)}" if words else "take more memory, or a smaller model"
    return f"out of memory on {where} {when}: {advice}"


def _helps_a_host(words: str) -> bool:
    """Return whether a remedy saves a host's memory: more workers on it share what it has."""
    return not any(name in words for name in ("offload", "--workers"))


def _remedies(settings: TrainSettings) -> Iterator[list[tuple[str, TrainSettings]]]:
    """Yield changes that save memory with the settings that they make, the cheapest in time first.

    Of those in one list the first that is enough will do.
    """
    more = max(2, settings.workers) if settings.strategy == "single" else 2 * settings.workers
    sharded = {"strategy": "fsdp", "workers": more}
    on_hosts = {**sharded, "offload": "parameters"}
    zero3_on_hosts = {**on_hosts, "strategy": "deepspeed", "zero_stage": 3, "workers": settings.workers}
    small: dict[str, Any] = {"micro_batch_size": 1, "activation_checkpointing": True}
    in_fsdp = {"strategy": "fsdp", "offload": "none"}
    groups: list[list[tuple[str, dict[str, Any]]]] = [
        [
            (f"train.micro_batch_size={size}", {"micro_batch_size": size})
            for size in _halves(settings.micro_batch_size)
        ],
        [
            ("train.activation_checkpointing=true", {"activation_checkpointing": True}),
            ("train.micro_batch_size=1 and train.activation_checkpointing=true", small),
        ],
        [
            ("train.zero_stage=3", {"zero_stage": 3}),
            ("--strategy fsdp", {"strategy": "fsdp"}),
            (f"--workers {more}", {"workers": more}),
            (f"--strategy fsdp --workers {more}", sharded),
        ],
        [
            ("train.offload=optimizer", {"offload": "optimizer"}),
            ("train.offload=parameters", {"offload": "parameters"}),
            ("--strategy deepspeed, train.zero_stage=3 and train.offload=parameters", zero3_on_hosts),
        ],
        [
            ("train.lora={}", {"lora": {}}),
            ("train.lora={quantization: nf4}", _nf4(settings)),
            ("train.lora={quantization: nf4} and --strategy fsdp", _nf4(settings) | in_fsdp),
            (
                "train.lora={quantization: nf4}, --strategy fsdp, train.micro_batch_size=1 and "
                "train.activation_checkpointing=true",
                _nf4(settings) | in_fsdp | small,
            ),
        ],
    ]
    for group in groups:
        yield [(words, changed) for words, change in group if (changed := _changed(settings, change))]


def _nf4(settings: TrainSettings) -> dict[str, Any]:
    lora = settings.lora or LoraSettings()
    return {"lora": {**lora.model_dump(), "quantization": "nf4"}}


def _changed(settings: TrainSettings, change: dict[str, Any]) -> TrainSettings | None:
    """Return the settings with a change; None where it changes nothing, or cannot be said in a recipe."""
    if settings.lora is not None and change.get("lora") == {}:
        return None
    if change == {"zero_stage": 3} and settings.strategy != "deepspeed":
        return None
    try:
        changed = TrainSettings.model_validate({**settings.model_dump(), **change})
    except ValidationError:
        return None
    return changed if changed != settings else None


def _halves(size: int) -> Iterator[int]:
    while size > 1:
        size //= 2
        yield size
