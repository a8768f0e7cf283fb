"""The training loop: batches, steps, schedule, callbacks. It knows no engine and no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.batches import BatchPlan
from alpagasus_ray.train.collate import collate
from alpagasus_ray.train.engines.base import Engine
from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.schedule import cosine_with_warmup, num_warmup_steps


@dataclass(frozen=True)
class Callbacks:
    """What the surroundings do at a step or a checkpoint."""

    on_step: Callable[[StepMetrics], None]
    on_checkpoint: Callable[[dict[str, Any], StepMetrics], None]
    """Gets the loop's state, to be saved by the engine with the model's."""


def train(
    engine: Engine,
    examples: Sequence[Example],
    settings: TrainSettings,
    pad_token_id: int,
    callbacks: Callbacks,
    state: dict[str, Any] | None = None,
) -> None:
    """Train to the end, from the start or from a checkpoint's state.

    Raises UserError, with the step and what to change, when the loss is not finite.
    """
    is_packed = engine.device.type != "cpu" if settings.packing is None else settings.packing
    plan = BatchPlan(
        len(examples),
        settings.global_batch_size,
        settings.micro_batch_size,
        settings.seed,
        settings.max_length_tokens if is_packed else None,
    )
    num_steps = settings.epochs * plan.steps_per_epoch
    warmup = num_warmup_steps(num_steps, settings.warmup_ratio)
    first_step = state["step"] if state else 0
    earlier_s = state["train_time_s"] if state else 0.0
    started_s = time.monotonic()
    order: list[int] = []
    for step in range(first_step, num_steps):
        epoch, step_of_epoch = divmod(step, plan.steps_per_epoch)
        if step_of_epoch == 0 or not order:
            order = plan.epoch_order(epoch)
        batch = plan.global_batch(order, step_of_epoch, examples, engine.rank, engine.world_size)
        loss = engine.sum(
            sum(
                engine.backward(
                    collate(examples, micro_batch, pad_token_id, engine.device),
                    batch.num_target_tokens,
                    is_last=number == len(batch.micro_batches),
                )
                for number, micro_batch in enumerate(batch.micro_batches, 1)
            )
        )
        _check_finite(loss, step + 1, settings)
        learning_rate = cosine_with_warmup(step, num_steps, warmup, settings.learning_rate)
        norm = engine.step(learning_rate, settings.max_gradient_norm)
        metrics = StepMetrics(
            step=step + 1,
            num_steps=num_steps,
            epoch=round((step + 1) / plan.steps_per_epoch, 4),
            loss=loss,
            learning_rate=learning_rate,
            gradient_norm=norm,
            target_tokens=batch.num_target_tokens,
            train_time_s=round(earlier_s + time.monotonic() - started_s, 3),
        )
        callbacks.on_step(metrics)
        if _is_checkpoint_due(step + 1, num_steps, plan, settings):
            callbacks.on_checkpoint({"step": step + 1, "train_time_s": metrics.train_time_s}, metrics)


def _is_checkpoint_due(done: int, num_steps: int, plan: BatchPlan, settings: TrainSettings) -> bool:
    return done == num_steps or done % (settings.checkpoint_every_steps or plan.steps_per_epoch) == 0


def _check_finite(loss: float, step: int, settings: TrainSettings) -> None:
    if loss != loss or abs(loss) == float("inf"):
        raise UserError(
            f"the loss is not finite at step {step}: lower train.learning_rate (it is "
            f"{settings.learning_rate:g}), or set train.precision to fp32"
        )
