"""What one training process does, under Ray Train and under torchrun alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.adapters import merged, quantization_config, save_adapter, with_adapter
from alpagasus_ray.train.engines.base import Engine
from alpagasus_ray.train.engines.deepspeed import DeepSpeedEngine
from alpagasus_ray.train.engines.fsdp2 import Fsdp2Engine
from alpagasus_ray.train.engines.single import SingleEngine
from alpagasus_ray.train.examples import build_examples
from alpagasus_ray.train.job import SUMMARY_FILE, TrainJob
from alpagasus_ray.train.loop import Callbacks, train
from alpagasus_ray.train.measuring import meter_of
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.recording import recording
from alpagasus_ray.train.validation import hold_out

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
    on_step: Callable[[StepMetrics], None] = lambda _: None,
) -> None:
    """Train one arm as one of the workers; the first worker exports the model at the end.

    torch.distributed is initialised by the caller where the strategy needs it. `checkpoint` is the
    folder to go on from. `on_step` is called on the first worker after each step.
    """
    settings = job.settings
    torch.set_num_threads(settings.threads_per_worker)
    torch.manual_seed(settings.seed)
    tokenizer = load_tokenizer(job.model)
    rows = json.loads(Path(job.train_file).read_text(encoding="utf-8"))
    examples, dropped = build_examples(rows, tokenizer, settings.max_length_tokens, job.row_form)
    if not examples:
        raise UserError(f"{job.train_file}: no row is left to train on ({dropped})")
    examples, held_out = hold_out(examples, settings.validation_share, settings.seed)
    model = model_to_train(job, tokenizer)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    num_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    engine = ENGINES[settings.strategy](model, job, _device())
    state = engine.load(checkpoint) if checkpoint else None
    meter = meter_of(model, settings, engine.device, engine.world_size)
    with recording(job, engine.rank == 0, checkpoint, on_step) as records:

        def on_checkpoint(loop_state: dict[str, Any], step_metrics: StepMetrics) -> None:
            with save_checkpoint(step_metrics) as folder:
                engine.save(folder, loop_state)
                records.copy_into(folder)

        callbacks, pad = Callbacks(records.add, on_checkpoint), tokenizer.pad_token_id
        train(engine, examples, settings, pad, callbacks, state, validation=held_out, meter=meter)
    export(engine, model, tokenizer, job)
    if engine.rank == 0:
        summary = {
            "examples": len(examples),
            "validation_examples": len(held_out),
            "dropped": dropped,
            "target_tokens": sum(example.num_target_tokens for example in examples),
            "parameters": num_parameters,
            "trained_parameters": num_trained,
            "world_size": engine.world_size,
            "sharded_tensors": sum(isinstance(one, DTensor) for one in model.parameters()),
            "tensors": sum(1 for _ in model.parameters()),
            "resumed_from_step": state["step"] if state else 0,
        }
        (Path(job.export_folder) / SUMMARY_FILE).write_text(json.dumps(summary), encoding="utf-8")


def model_to_train(job: TrainJob, tokenizer: Any) -> Any:
    """Return the base model, with new adapters and in 4 bits where the recipe says so."""
    model = load_model(job.model, tokenizer, quantization_config(job.settings))
    return model if job.settings.lora is None else with_adapter(model, job.settings.lora)


def export(engine: Engine, model: Any, tokenizer: Any, job: TrainJob) -> None:
    """Write the trained model as a Hugging Face folder, in the precision it was trained with.

    Adapters are merged into the base model, or written alone, as the recipe says.
    """
    weights, lora, folder = engine.full_weights(), job.settings.lora, Path(job.export_folder)
    if engine.rank == 0:
        if lora is not None and not lora.merge:
            save_adapter(model, weights, folder)
        elif lora is not None:
            whole = merged(load_model(job.model, tokenizer), lora, weights)
            _save(whole, whole.state_dict(), folder, job.settings)
        else:
            _save(model, weights, folder, job.settings)
        tokenizer.save_pretrained(folder)
    if dist.is_initialized():
        dist.barrier()


def _save(model: Any, weights: Mapping[str, torch.Tensor], folder: Path, settings: TrainSettings) -> None:
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict={name: tensor.to(dtype) for name, tensor in weights.items()})
    # save_pretrained writes the live model's dtype over the config's; these weights have another.
    model.config.dtype = dtype
    model.config.save_pretrained(folder)


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
