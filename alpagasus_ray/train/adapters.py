"""LoRA and QLoRA through peft and bitsandbytes: what is trained, and what becomes of it in the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import LoraSettings, TrainSettings

MARK = ".lora_"
"""In the names of an adapter's own weights."""


def quantization_config(settings: TrainSettings) -> Any:
    """Return what transformers is told to load the base model in 4 bits; None where it is not to.

    NF4 with double quantisation, computing in the precision of the training (arXiv 2305.14314, section 3).
    """
    if settings.lora is None or settings.lora.quantization == "none":
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float32,
    )


def with_adapter(model: Any, lora: LoraSettings) -> Any:
    """Return the model with new adapters, which alone are trained; they change nothing yet.

    Raises UserError for targets that the model has not got.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"train.lora.targets: {str(error).splitlines()[0]}") from error


def adapter_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the adapters' own weights among all of a model's."""
    return {name: tensor for name, tensor in weights.items() if MARK in name}


def save_adapter(model: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the adapter alone, as peft and vLLM load it."""
    model.save_pretrained(folder, state_dict=adapter_weights(weights))


def merged(base: Any, lora: LoraSettings, weights: Mapping[str, torch.Tensor]) -> Any:
    """Return a freshly loaded base model with trained adapters merged into its own weights.

    A base that was held in 4 bits comes whole here: merging into rounded weights would round the adapter.
    """
    adapted = with_adapter(base, lora)
    missing = adapted.load_state_dict(adapter_weights(weights), strict=False)
    if lost := [name for name in missing.missing_keys if MARK in name]:
        raise ValueError(f"no trained weights for {lost[0]} and {len(lost) - 1} others")
    return adapted.merge_and_unload()
