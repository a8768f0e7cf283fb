"""What one training process does, under Ray Train and under torchrun alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch.distributed.tensor import DTensor

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.adapters import quantization_config, with_adapter
from alpagasus_ray.train.devices import device_of, wants_gpu
from alpagasus_ray.train.engines.base import Engine, Written
from alpagasus_ray.train.engines.deepspeed import DeepSpeedEngine
from alpagasus_ray.train.engines.fsdp2 import Fsdp2Engine
from alpagasus_ray.train.engines.single import SingleEngine
from alpagasus_ray.train.exporting import export
from alpagasus_ray.train.job import LoneWorkerError, TrainJob
from alpagasus_ray.train.loop import Callbacks, never, train
from alpagasus_ray.train.measuring import meter_of
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.out_of_memory import out_of_memory_told
from alpagasus_ray.train.packs_apart import with_packing
from alpagasus_ray.train.recording import recording
from alpagasus_ray.train.token_table import TokenTable
from alpagasus_ray.train.tokenizing import tokenised_arm
from alpagasus_ray.train.validation import hold_out

ENGINES: dict[str, Callable[[Any, TrainJob, torch.device], Engine]] = {
    "fsdp": lambda model, job, device: Fsdp2Engine(model, job.settings, device),
    "deepspeed": lambda model, job, device: DeepSpeedEngine(model, job.settings, device, job.deepspeed),
    "single": lambda model, job, device: SingleEngine(model, job.settings, device),
}

SaveCheckpoint = Callable[[StepMetrics, Callable[[Path], Written]], None]
"""Has a folder filled, and keeps it as the newest checkpoint once all of it is written."""


def run_worker(
    job: TrainJob,
    checkpoint: Path | None,
    save_checkpoint: SaveCheckpoint,
    on_step: Callable[[StepMetrics], None] = lambda _: None,
    wants_checkpoint: Callable[[], bool] = never,
    tables: Iterable[pa.Table] | None = None,
    use_gpu: bool | None = None,
) -> None:
    """Train one arm as one of the workers; the first worker exports the model at the end.

    torch.distributed is initialised by the caller where the strategy needs it. `checkpoint` is the
    folder to go on from. `on_step` is called on the first worker after each step, `wants_checkpoint` asked on
    all of them for a checkpoint out of turn. `tables` are all of the arm's rows in tokens, in their order
    (token_table.SCHEMA); None: the worker makes them by itself. `use_gpu` was decided where the worker
    was placed (None: as the recipe says and torch finds, devices.wants_gpu).
    """
    settings = job.settings
    torch.set_num_threads(settings.threads_per_worker)
    torch.manual_seed(settings.seed)
    device = device_of(wants_gpu(settings) if use_gpu is None else use_gpu, settings.precision)
    with _alone():
        tokenizer = load_tokenizer(job.model)
        rows = _rows(job, tokenised_arm(job, tokenizer) if tables is None else tables)
        examples, held_out = hold_out(rows, settings.validation_share, settings.seed)
    with out_of_memory_told(settings, device, lambda: "while the model was loaded"):
        with _alone():
            model = model_to_train(job, tokenizer)
            settings = with_packing(model, rows, settings, device)
        sizes = _sizes(model)  # before an engine shards it
        engine = ENGINES[settings.strategy](model, job, device)
        state = engine.load(checkpoint) if checkpoint else None
    first_step = done_steps = state["step"] if state else 0
    meter = meter_of(model, settings, engine.device, engine.world_size)
    with (
        recording(job, engine.rank == 0, checkpoint, on_step) as records,
        out_of_memory_told(settings, device, lambda: f"at step {done_steps + 1}"),
    ):

        def on_each_step(metrics: StepMetrics) -> None:
            nonlocal done_steps
            records.add(metrics)
            done_steps = metrics.step

        def on_checkpoint(loop_state: dict[str, Any], metrics: StepMetrics) -> None:
            def fill(folder: Path) -> Written:
                written = engine.save(folder, loop_state)
                records.copy_into(folder)
                return written

            save_checkpoint(metrics, fill)

        callbacks = Callbacks(on_each_step, on_checkpoint, wants_checkpoint)
        pad = tokenizer.pad_token_id
        train(engine, examples, settings, pad, callbacks, state, validation=held_out, meter=meter)
    summary = {
        "examples": len(examples),
        "validation_examples": len(held_out),
        "dropped": dict(rows.dropped),
        "packing": settings.packing,
        "target_tokens": sum(example.num_target_tokens for example in examples),
        **sizes,
        **_sharding(model),
        "world_size": engine.world_size,
        "resumed_from_step": first_step,
    }
    with out_of_memory_told(settings, device, lambda: "after the last step, while the model was written"):
        export(engine, model, tokenizer, job, summary)


def _rows(job: TrainJob, tables: Iterable[pa.Table]) -> TokenTable:
    rows = TokenTable(tables)
    if not len(rows):
        raise UserError(f"{job.train_file}: no row is left to train on ({dict(rows.dropped)})")
    return rows


@contextmanager
def _alone() -> Iterator[None]:
    """Say of an error that it may be this worker's alone: a node may lack what the others have."""
    try:
        yield
    except LoneWorkerError:
        raise
    except UserError as error:
        raise LoneWorkerError(str(error)) from error


def _sizes(model: Any) -> dict[str, int]:
    parameters = list(model.parameters())
    return {
        "parameters": sum(_num_weights(one) for one in parameters),
        "trained_parameters": sum(one.numel() for one in parameters if one.requires_grad),
    }


def _sharding(model: Any) -> dict[str, int]:
    parameters = list(model.parameters())
    return {
        "sharded_tensors": sum(isinstance(one, DTensor) for one in parameters),
        "tensors": len(parameters),
    }


def _num_weights(parameter: torch.nn.Parameter) -> int:
    """Return how many weights a parameter holds: in 4 bits, two in each of its bytes."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def model_to_train(job: TrainJob, tokenizer: Any) -> Any:
    """Return the base model, with new adapters and in 4 bits where the recipe says so."""
    model = load_model(job.model, tokenizer, quantization_config(job.settings))
    return model if job.settings.lora is None else with_adapter(model, job.settings.lora)
