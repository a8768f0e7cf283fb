"""What the loop asks of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.collate import IGNORED

Written = Callable[[], object]
"""Waits until all of a checkpoint is on the disk; raises what kept it from there."""


def nothing_left() -> None:
    """Wait for nothing: all is on the disk."""


class Engine(Protocol):
    """A model and its optimizer, held in one process or many."""

    rank: int
    world_size: int
    device: torch.device

    def backward(self, batch: dict[str, torch.Tensor], num_target_tokens: int, is_last: bool) -> float:
        """Add a micro-batch's gradients; return its summed loss over `num_target_tokens` (in nats).

        `num_target_tokens` counts the whole global batch, so that the sum of these over all workers and
        micro-batches is the mean loss per target token, however the rows were dealt out. `is_last` says that
        the optimizer's step comes next.
        """
        ...

    def evaluate(self, batch: dict[str, torch.Tensor], num_target_tokens: int) -> float:
        """Return what `backward` does, without gradients and dropout; nothing changes."""
        ...

    def step(self, learning_rate: float, max_gradient_norm: float) -> float:
        """Clip, step, clear; return the gradients' norm before clipping."""
        ...

    def sum(self, value: float) -> float:
        """Return the sum of a number over all workers."""
        ...

    def save(self, folder: Path, state: dict[str, Any]) -> Written:
        """Write this worker's part of a checkpoint: model, optimizer and the loop's own state.

        It may go on being written after the return: what is returned waits for that. Training can go on.
        """
        ...

    def load(self, folder: Path) -> dict[str, Any]:
        """Take model and optimizer from a checkpoint; return the loop's state."""
        ...

    def full_weights(self) -> dict[str, torch.Tensor]:
        """Return all weights on the first worker (on others an empty dictionary)."""
        ...


def target_loss(
    model: torch.nn.Module, batch: dict[str, torch.Tensor], num_target_tokens: int
) -> torch.Tensor:
    """Return the summed cross-entropy of the targets over `num_target_tokens`, in nats.

    Labels of -100 do not count, and no logits are computed for the tokens before them: of Alpaca's tokens
    they are more than half. Logits are compared in float32.
    """
    targets = batch["labels"][:, 1:]
    is_target = targets != IGNORED
    with _head_sees_only(model, is_target):
        output = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
    loss: torch.Tensor = torch.nn.functional.cross_entropy(
        output.logits.float(), targets[is_target], reduction="sum"
    )
    return loss / num_target_tokens


@torch.no_grad()
def evaluated_loss(model: torch.nn.Module, batch: dict[str, torch.Tensor], num_target_tokens: int) -> float:
    """Return `target_loss` without gradients and without dropout: no random number is drawn for it."""
    with evaluating(model):
        return float(target_loss(model, batch, num_target_tokens))


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off; at the end the model is in training."""
    model.eval()
    for module in model.modules():
        # For inference on CPUs bitsandbytes packs 4-bit weights anew, with less of their constants, for good.
        module.training = hasattr(getattr(module, "weight", None), "quant_state")
    try:
        yield
    finally:
        model.train()


@contextmanager
def _head_sees_only(model: Any, is_target: torch.Tensor) -> Iterator[None]:
    """Let the language model's head work on the chosen places alone: (targets, vocabulary) comes out.

    A hook, and no call of the head from outside: sharded parameters are there only within the model's own
    forward pass.
    """

    def choose(head: torch.nn.Module, hidden: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return hidden[0][:, :-1][is_target]

    inner = getattr(model, "module", model)  # DeepSpeed wraps the model
    hook = inner.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()


def sum_over_workers(value: float, device: torch.device) -> float:
    """Return the sum of a number over all workers of the process group."""
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total)


def build_optimizer(model: torch.nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return AdamW over the parameters that are trained, sharded or not."""
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,  # one call for all tensors: half of a small model's step was the optimizer's otherwise
    )


def clip_and_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, learning_rate: float, max_gradient_norm: float
) -> float:
    """Clip, step, clear; return the gradients' norm before clipping, over all shards."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_gradient_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
