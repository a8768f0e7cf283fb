"""How fast a step was, and what it held: tokens per second, the share of the GPUs' peak, memory."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import Any

import torch

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.batches import GlobalBatch
from alpagasus_ray.train.flops import TokenFlops, token_flops
from alpagasus_ray.train.gpus import gpu_of_torch_name
from alpagasus_ray.train.memory import GIB
from alpagasus_ray.train.model_shape import shape_of


@dataclass(frozen=True)
class Meter:
    """What turns a step's tokens and seconds into rates."""

    device: torch.device
    flops: TokenFlops | None
    """None: the model's form is not known."""
    peak_flops: float | None
    """Of all workers' GPUs together, per second; None where it is not known."""

    def rates(self, batch: GlobalBatch, step_s: float) -> dict[str, Any]:
        """Return tokens_per_s, mfu and peak_memory_gib (see StepMetrics) of a step that took so long."""
        mfu = None
        if self.flops is not None and self.peak_flops is not None:
            mfu = self.flops.of(batch.num_tokens, batch.num_attended_tokens) / (step_s * self.peak_flops)
        return {
            "tokens_per_s": round(batch.num_tokens / step_s, 1),
            "mfu": None if mfu is None else round(mfu, 5),
            "peak_memory_gib": round(peak_memory_bytes(self.device) / GIB, 3),
        }


def meter_of(model: Any, settings: TrainSettings, device: torch.device, world_size: int) -> Meter:
    """Return the meter of a transformers model on as many devices of one kind as there are workers."""
    gpu = gpu_of_torch_name(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    try:
        flops = token_flops(shape_of(model.config.to_dict(), "config"), settings)
    except UserError:  # it is trained all the same: only its arithmetic cannot be counted
        flops = None
    return Meter(device, flops, None if gpu is None else world_size * gpu.peak_flops(settings))


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most that this process has held: of its GPU's memory, or of the host's without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
