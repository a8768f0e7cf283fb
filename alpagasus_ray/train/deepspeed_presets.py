"""DeepSpeed's settings as they were published for the four sizes of Llama 1, by name. Pure.

Source: the DeepSpeed variants of the original training code (arXiv 2307.08701). Precision, batch and learning
rate are the recipe's; buckets are in parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ON_HOST = {"device": "cpu", "pin_memory": True}
_ZERO_3 = {
    "stage": 3,
    "offload_optimizer": _ON_HOST,
    "stage3_gather_16bit_weights_on_model_save": True,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "alpagasus-7b": {
        "zero_optimization": {
            "stage": 2,
            "offload_optimizer": _ON_HOST,
            "allgather_bucket_size": 200_000_000,
            "reduce_bucket_size": 200_000_000,
        }
    },
    "alpagasus-13b": {"zero_optimization": _ZERO_3},
    "alpagasus-33b": {"zero_optimization": {**_ZERO_3, "offload_param": _ON_HOST}},
    "alpagasus-65b": {"zero_optimization": _ZERO_3},
}
"""What `train.deepspeed_config` takes in place of a file."""
