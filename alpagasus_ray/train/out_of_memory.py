"""A worker that runs out of memory says so in one line: when, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.fitting import out_of_memory_line
from alpagasus_ray.train.job import LoneWorkerError

SIGNS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In RuntimeErrors: torch's CPU allocator, CUDA and NCCL, cuBLAS for its workspace."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


@contextmanager
def out_of_memory_told(
    settings: TrainSettings, device: torch.device, when: Callable[[], str]
) -> Iterator[None]:
    """Turn running out of memory in the block into LoneWorkerError; `when` says at which point it was."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "the host"
        if device.type == "cuda":
            room = torch.cuda.get_device_properties(device).total_memory / 2**30
            where = f"a GPU of {room:.0f} GiB"
        raise LoneWorkerError(out_of_memory_line(settings, where, when(), device.type == "cuda")) from error
