"""Running out of memory ends in one line: at which step, and what to change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.job import LoneWorkerError, TrainJob
from alpagasus_ray.train.metrics import StepMetrics, read_metrics
from alpagasus_ray.train.out_of_memory import is_out_of_memory, out_of_memory_told
from alpagasus_ray.train.worker import run_worker

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


def cuda_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")


def host_full() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)  # what torch's own allocator says


def python_full() -> None:
    bytearray(1 << 60)


@contextmanager
def failing_at_pass(number: int, fail: Callable[[], Any]) -> Iterator[None]:
    """Let a forward pass of the whole model fail, as it does in a layer that finds no room."""
    passes = 0

    def count(module: torch.nn.Module, args: Any) -> None:
        nonlocal passes
        if type(module).__name__ == "LlamaForCausalLM":
            passes += 1
            if passes == number:
                fail()

    hook = register_module_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()


def trained(base: Path, folder: Path, **train: Any) -> None:
    """Train 4 steps of one pass each, from the checkpoint in the folder if there is one."""
    (folder / "train.json").write_text(json.dumps(generate_rows(32, 0.5, 5)))
    settings = TrainSettings.model_validate(
        {
            "strategy": "single",
            "workers": 1,
            "epochs": 1,
            "global_batch_size": 8,
            "micro_batch_size": 8,
            "precision": "fp32",
            **train,
        }
    )

    checkpoint = folder / "checkpoint"

    def keep(metrics: StepMetrics, fill: Callable[[Path], Written]) -> None:
        checkpoint.mkdir(exist_ok=True)
        fill(checkpoint)()

    job = TrainJob(str(base), str(folder / "train.json"), str(folder / "model"), settings)
    run_worker(job, checkpoint if checkpoint.exists() else None, keep)


@pytest.mark.parametrize("fail", [cuda_full, host_full, python_full])
def test_the_step_and_what_to_change_are_told(
    tiny_model: Path, tmp_path: Path, fail: Callable[[], Any]
) -> None:
    with failing_at_pass(3, fail), pytest.raises(LoneWorkerError) as caught:
        trained(tiny_model, tmp_path)
    told = str(caught.value)
    assert "at step 3:" in told and "\n" not in told
    for remedy in ("micro_batch_size=4", "activation_checkpointing=true", "lora", "max_length_tokens"):
        assert remedy in told
    assert "offload" not in told and "--workers" not in told, "neither gives a host more memory"
    assert isinstance(caught.value, UserError)
    assert len(read_metrics(tmp_path / "model" / "metrics.jsonl")) == 2


def test_the_step_counts_from_the_start_of_the_training_not_of_the_attempt(
    tiny_model: Path, tmp_path: Path
) -> None:
    how = {"checkpoint_every_steps": 2}
    with failing_at_pass(3, cuda_full), pytest.raises(LoneWorkerError):
        trained(tiny_model, tmp_path, **how)
    with failing_at_pass(2, cuda_full), pytest.raises(LoneWorkerError, match="at step 4:"):
        trained(tiny_model, tmp_path, **how)


def test_a_model_that_does_not_fit_at_all_is_told_apart() -> None:
    settings = TrainSettings()
    with (
        pytest.raises(LoneWorkerError, match="while the model was loaded: try"),
        out_of_memory_told(settings, CPU, lambda: "while the model was loaded"),
    ):
        host_full()


def test_other_errors_stay_what_they_are() -> None:
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory_told(TrainSettings(), CPU, lambda: ""):
        raise RuntimeError("shapes cannot be multiplied")
