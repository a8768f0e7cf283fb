"""The training loop: batches, steps, schedule, callbacks. It knows no engine and no Ray."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.batches import BatchPlan, GlobalBatch
from alpagasus_ray.train.collate import collate
from alpagasus_ray.train.engines.base import Engine
from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.measuring import Meter
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.packs_apart import is_packed
from alpagasus_ray.train.schedule import cosine_with_warmup, num_warmup_steps


def never() -> bool:
    """Want no checkpoint out of turn."""
    return False


@dataclass(frozen=True)
class Callbacks:
    """What the surroundings do at a step or a checkpoint."""

    on_step: Callable[[StepMetrics], None]
    on_checkpoint: Callable[[dict[str, Any], StepMetrics], None]
    """Gets the loop's state, to be saved by the engine with the model's."""
    wants_checkpoint: Callable[[], bool] = never
    """Asked by all workers after each step: the machine may be about to be taken away."""


def train(
    engine: Engine,
    examples: Sequence[Example],
    settings: TrainSettings,
    pad_token_id: int,
    callbacks: Callbacks,
    state: dict[str, Any] | None = None,
    *,
    validation: Sequence[Example] = (),
    meter: Meter | None = None,
) -> None:
    """Train to the end, from the start or from a checkpoint's state.

    The loss on the examples of `validation` is measured at each checkpoint; `meter` None leaves the rates
    that hang on the model's form unknown. Raises UserError, with the step and what to change, when the loss
    is not finite.
    """
    meter = meter or Meter(engine.device, None, None)
    plan = _batch_plan(len(examples), settings.global_batch_size, settings, engine)
    num_steps = settings.epochs * plan.steps_per_epoch
    warmup = num_warmup_steps(num_steps, settings.warmup_ratio)
    first_step = state["step"] if state else 0
    started_s = time.monotonic() - (state["train_time_s"] if state else 0.0)
    order: list[int] = []
    measure_validation = _validation(engine, validation, settings, pad_token_id)
    for step in range(first_step, num_steps):
        epoch, step_of_epoch = divmod(step, plan.steps_per_epoch)
        if step_of_epoch == 0 or not order:
            order = plan.epoch_order(epoch)
        step_started_s = time.monotonic()
        _seed_step(settings.seed, step, engine.rank)
        batch = plan.global_batch(order, step_of_epoch, examples, engine.rank, engine.world_size)
        loss = _mean_loss(engine.backward, engine, batch, examples, pad_token_id)
        _check_finite("loss", loss, step + 1, settings)
        learning_rate = cosine_with_warmup(step, num_steps, warmup, settings.learning_rate)
        norm = engine.step(learning_rate, settings.max_gradient_norm)
        _check_finite("gradients' norm", norm, step + 1, settings)
        rates = meter.rates(batch, time.monotonic() - step_started_s)
        is_wanted = callbacks.wants_checkpoint()
        is_checkpoint = is_wanted or _is_checkpoint_due(step + 1, num_steps, plan, settings)
        metrics = StepMetrics(
            step=step + 1,
            num_steps=num_steps,
            epoch=round((step + 1) / plan.steps_per_epoch, 4),
            loss=loss,
            validation_loss=measure_validation() if is_checkpoint else None,
            learning_rate=learning_rate,
            gradient_norm=norm,
            target_tokens=batch.num_target_tokens,
            train_time_s=round(time.monotonic() - started_s, 3),
            workers=engine.world_size,
            **rates,
        )
        callbacks.on_step(metrics)
        if is_checkpoint:
            callbacks.on_checkpoint({"step": step + 1, "train_time_s": metrics.train_time_s}, metrics)


def _batch_plan(
    num_examples: int, global_batch_size: int, settings: TrainSettings, engine: Engine
) -> BatchPlan:
    return BatchPlan(
        num_examples,
        global_batch_size,
        settings.micro_batch_size,
        settings.seed,
        settings.max_length_tokens if is_packed(settings, engine.device) else None,
    )


def _validation(
    engine: Engine, examples: Sequence[Example], settings: TrainSettings, pad_token_id: int
) -> Callable[[], float | None]:
    """Return what measures the mean loss on all of the examples at once; None comes of it without any."""
    if not examples:
        return lambda: None
    plan = _batch_plan(len(examples), len(examples), settings, engine)
    batch = plan.global_batch(range(len(examples)), 0, examples, engine.rank, engine.world_size)
    return lambda: _mean_loss(
        lambda inputs, num_target_tokens, _: engine.evaluate(inputs, num_target_tokens),
        engine,
        batch,
        examples,
        pad_token_id,
    )


def _mean_loss(
    part_of_loss: Callable[[dict[str, torch.Tensor], int, bool], float],
    engine: Engine,
    batch: GlobalBatch,
    examples: Sequence[Example],
    pad_token_id: int,
) -> float:
    """Return a batch's mean loss over all workers; `part_of_loss` is the engine's backward or evaluate."""
    count = len(batch.micro_batches)
    return engine.sum(
        sum(
            part_of_loss(
                collate(examples, one, pad_token_id, engine.device), batch.num_target_tokens, number == count
            )
            for number, one in enumerate(batch.micro_batches, 1)
        )
    )


def _is_checkpoint_due(done: int, num_steps: int, plan: BatchPlan, settings: TrainSettings) -> bool:
    return done == num_steps or done % (settings.checkpoint_every_steps or plan.steps_per_epoch) == 0


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Give a step its own random numbers (dropout's): who goes on from a checkpoint draws the same."""
    digest = hashlib.blake2b(f"{seed}:{step}:{rank}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(digest, "big"))


def _check_finite(what: str, value: float, step: int, settings: TrainSettings) -> None:
    if not math.isfinite(value):
        is_rounded = settings.precision != "fp32"
        raise UserError(
            f"the {what} is not finite at step {step}: lower train.learning_rate (it is "
            f"{settings.learning_rate:g})" + (", or set train.precision to fp32" if is_rounded else "")
        )
