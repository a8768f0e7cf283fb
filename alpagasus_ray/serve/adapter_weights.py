"""Whether an adapter's weights fit what its config and base model say, by the file's header alone."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles
from alpagasus_ray.serve.model_folder import ADAPTER_CONFIG

WEIGHTS = "adapter_model.safetensors"
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit (github.com/huggingface/safetensors, README)."""
_LORA = re.compile(r"(?:^|\.)([^.]+)\.lora_([AB])(?:\.[^.]+)?\.weight$")
"""The layer's name and which of its two factors this is: `...q_proj.lora_A.weight`, PEFT's names."""


def check_adapter_weights(folder: str, base_config: Mapping[str, Any]) -> None:
    """Raise UserError where vLLM would refuse an adapter's weights, once it has loaded everything else.

    `base_config` is the base model's config.json. Weights in another file than safetensors are not looked at.
    """
    files = ModelFiles(folder)
    if not files.exists(WEIGHTS):
        return
    config = files.read_json(ADAPTER_CONFIG)
    ranks = {config.get("r"), *(config.get("rank_pattern") or {}).values()}
    widths = _widths(base_config)
    for name, shape in _shapes(files).items():
        if (found := _LORA.search(name)) is None or len(shape) != 2:
            continue
        layer, factor = found[1], found[2]
        # y = x A^T B^T: A is (rank, in), B is (out, rank).
        rank, width = shape if factor == "A" else shape[::-1]
        if rank not in ranks:
            said = " or ".join(map(str, sorted(rank for rank in ranks if isinstance(rank, int))))
            raise UserError(f"{folder}: {name} has rank {rank}, and {ADAPTER_CONFIG} says {said}")
        expected = widths.get(layer, {}).get(factor, width)
        if width != expected:
            raise UserError(
                f"{folder}: {name} is {width} wide where its base model is {expected}: it was trained over "
                "another model"
            )


def _shapes(files: ModelFiles) -> dict[str, list[int]]:
    """Return the tensors' shapes: eight bytes with the length of a header in JSON, and that."""
    where = files.shown(WEIGHTS)
    try:
        with files.filesystem.open_input_stream(files.path(WEIGHTS)) as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError("its header has no end")
            header = json.loads(stream.read(length))
        return {name: list(one["shape"]) for name, one in header.items() if name != "__metadata__"}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise UserError(f"{where} holds no safetensors: {error}") from error


def _widths(config: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return how wide the layers of a Llama's kind are at either end, by name and factor.

    Empty where the config does not say it in Llama's way (transformers, modeling_llama.py).
    """
    names = ("hidden_size", "intermediate_size", "num_attention_heads")
    hidden, inner, heads = (config.get(name) for name in names)
    if not (isinstance(hidden, int) and isinstance(inner, int) and isinstance(heads, int) and heads > 0):
        return {}
    if config.get("model_type") not in ("llama", "mistral", "qwen2"):
        return {}
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    ends = {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    return {layer: {"A": into, "B": out} for layer, (into, out) in ends.items()}
