"""One process, one device, nothing sharded: small models, and the measure of the other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.adapters import adapter_weights
from alpagasus_ray.train.engines.base import (
    Written,
    build_optimizer,
    clip_and_step,
    evaluated_loss,
    nothing_left,
    target_loss,
)

STATE_FILE = "single.pt"


class SingleEngine:
    """The whole model in this process."""

    rank, world_size = 0, 1

    def __init__(self, model: Any, settings: TrainSettings, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device)
        if settings.activation_checkpointing:
            self.model.gradient_checkpointing_enable()
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        self.optimizer = build_optimizer(self.model, settings)
        self._is_whole = settings.lora is None  # else the base's weights are there already: adapters are kept
        self.model.train()

    def backward(self, batch: dict[str, torch.Tensor], num_target_tokens: int, is_last: bool) -> float:
        """Add a micro-batch's gradients; return its part of the global batch's mean loss."""
        with self._autocast:
            loss = target_loss(self.model, batch, num_target_tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def evaluate(self, batch: dict[str, torch.Tensor], num_target_tokens: int) -> float:
        """Return a micro-batch's part of a batch's mean loss, without gradients and dropout."""
        with self._autocast:
            return evaluated_loss(self.model, batch, num_target_tokens)

    def step(self, learning_rate: float, max_gradient_norm: float) -> float:
        """Clip, step, clear; return the gradients' norm before clipping."""
        return clip_and_step(self.model, self.optimizer, learning_rate, max_gradient_norm)

    def sum(self, value: float) -> float:
        """Return the number itself."""
        return value

    def save(self, folder: Path, state: dict[str, Any]) -> Written:
        """Write model, optimizer and the loop's state."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = self.model.state_dict()
        if not self._is_whole:
            weights = adapter_weights(weights)
        stored = {"model": weights, "optimizer": self.optimizer.state_dict(), "loop": state}
        torch.save(stored, folder / STATE_FILE)
        return nothing_left

    def load(self, folder: Path) -> dict[str, Any]:
        """Take model and optimizer from a checkpoint; return the loop's state."""
        stored = torch.load(folder / STATE_FILE, map_location=self.device, weights_only=True)
        self.model.load_state_dict(stored["model"], strict=self._is_whole)
        self.optimizer.load_state_dict(stored["optimizer"])
        loop_state: dict[str, Any] = stored["loop"]
        return loop_state

    def full_weights(self) -> dict[str, torch.Tensor]:
        """Return all weights."""
        return {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
