"""What one training process does, under Ray Train and under torchrun alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.adapters import quantization_config, with_adapter
from alpagasus_ray.train.checking import no_bf16_line
from alpagasus_ray.train.engines.base import Engine
from alpagasus_ray.train.engines.deepspeed import DeepSpeedEngine
from alpagasus_ray.train.engines.fsdp2 import Fsdp2Engine
from alpagasus_ray.train.engines.single import SingleEngine
from alpagasus_ray.train.examples import build_examples
from alpagasus_ray.train.exporting import export
from alpagasus_ray.train.job import METRICS_FILE, LoneWorkerError, TrainJob
from alpagasus_ray.train.loop import Callbacks, never, train
from alpagasus_ray.train.metrics import MetricsFile, StepMetrics
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.out_of_memory import out_of_memory_told

ENGINES: dict[str, Callable[[Any, TrainJob, torch.device], Engine]] = {
    "fsdp": lambda model, job, device: Fsdp2Engine(model, job.settings, device),
    "deepspeed": lambda model, job, device: DeepSpeedEngine(model, job.settings, device, job.deepspeed),
    "single": lambda model, job, device: SingleEngine(model, job.settings, device),
}

SaveCheckpoint = Callable[[StepMetrics], AbstractContextManager[Path]]
"""Gives a folder to fill, and keeps it as the newest checkpoint when the block is left."""


def run_worker(
    job: TrainJob,
    save_checkpoint: SaveCheckpoint,
    checkpoint: Path | None,
    wants_checkpoint: Callable[[], bool] = never,
) -> None:
    """Train one arm as one of the workers; the first worker exports the model at the end.

    torch.distributed is initialised by the caller where the strategy needs it. `checkpoint` is the
    folder to go on from; `wants_checkpoint` is asked after each step for one out of turn.
    """
    settings = job.settings
    torch.set_num_threads(settings.threads_per_worker)
    torch.manual_seed(settings.seed)
    device = _device(settings.precision)
    tokenizer = load_tokenizer(job.model)
    rows = json.loads(Path(job.train_file).read_text(encoding="utf-8"))
    examples, dropped = build_examples(
        rows, tokenizer, settings.max_length_tokens, job.row_form, settings.template
    )
    if not examples:
        raise UserError(f"{job.train_file}: no row is left to train on ({dropped})")
    with out_of_memory_told(settings, device, lambda: "while the model was loaded"):
        model = model_to_train(job, tokenizer)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        engine = ENGINES[settings.strategy](model, job, device)
        state = engine.load(checkpoint) if checkpoint else None
    first_step = done_steps = state["step"] if state else 0
    metrics = MetricsFile(Path(job.export_folder) / METRICS_FILE, engine.rank == 0)
    metrics.start(checkpoint)

    def on_step(step_metrics: StepMetrics) -> None:
        nonlocal done_steps
        metrics.add(step_metrics)
        done_steps = step_metrics.step

    def on_checkpoint(loop_state: dict[str, Any], step_metrics: StepMetrics) -> None:
        with save_checkpoint(step_metrics) as folder:
            engine.save(folder, loop_state)
            metrics.copy_into(folder)

    callbacks = Callbacks(on_step, on_checkpoint, wants_checkpoint)
    with out_of_memory_told(settings, device, lambda: f"at step {done_steps + 1}"):
        train(engine, examples, settings, tokenizer.pad_token_id, callbacks, state)
    summary = {
        "examples": len(examples),
        "dropped": dropped,
        "target_tokens": sum(example.num_target_tokens for example in examples),
        "parameters": num_parameters,
        "trained_parameters": num_trained,
        "world_size": engine.world_size,
        "sharded_tensors": sum(isinstance(one, DTensor) for one in model.parameters()),
        "tensors": sum(1 for _ in model.parameters()),
        "resumed_from_step": first_step,
    }
    with out_of_memory_told(settings, device, lambda: "after the last step, while the model was written"):
        export(engine, model, tokenizer, job, summary)


def model_to_train(job: TrainJob, tokenizer: Any) -> Any:
    """Return the base model, with new adapters and in 4 bits where the recipe says so."""
    model = load_model(job.model, tokenizer, quantization_config(job.settings))
    return model if job.settings.lora is None else with_adapter(model, job.settings.lora)


def _device(precision: str) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise LoneWorkerError(no_bf16_line(torch.cuda.get_device_name(device)))
    return device
