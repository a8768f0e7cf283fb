"""What a worker computes on, decided once and before it asks torch: a card that is there may be another's.

torch is imported where a worker is: whoever places the workers needs none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.checking import no_bf16_line
from alpagasus_ray.train.job import LoneWorkerError

if TYPE_CHECKING:
    import torch

NO_GPUS: Mapping[str, str] = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
"""In the environment of a worker on CPUs before it loads torch. DeepSpeed looks for cards by itself."""


def hide_gpus() -> None:
    """Keep this process off the GPUs of its machine; torch must not have looked at them yet."""
    os.environ.update(NO_GPUS)


def wants_gpu(settings: TrainSettings) -> bool:
    """Return whether a worker that Ray did not place takes a GPU.

    Raises UserError where the recipe wants one and torch finds none.
    """
    if settings.accelerator == "cpu":
        return False
    import torch

    if torch.cuda.is_available():
        return True
    if settings.accelerator == "gpu":
        raise UserError(
            "train.accelerator is gpu, and torch finds none here: set it to cpu, or mend the driver"
        )
    return False


def device_of(use_gpu: bool, precision: str) -> torch.device:
    """Return this worker's device: the CPU, or the GPU of its rank on the node.

    Raises LoneWorkerError for a card that cannot do the precision.
    """
    import torch

    if not use_gpu:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise LoneWorkerError(no_bf16_line(torch.cuda.get_device_name(device)))
    return device
