"""DeepSpeed's ZeRO: optimizer (1), gradients (2) and parameters (3) sharded over the workers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.deepspeed_config import deepspeed_config
from alpagasus_ray.train.engines.base import (
    Written,
    build_optimizer,
    evaluated_loss,
    nothing_left,
    sum_over_workers,
    target_loss,
)
from alpagasus_ray.train.op_builds import remove_stale_locks

TAG = "deepspeed"
"""The folder within a checkpoint."""
SHARDING_FILE = "alpagasus_sharding.json"
"""Beside it: how many workers' shards these are, and of which stage."""


class DeepSpeedEngine:
    """One worker of a model under ZeRO. torch.distributed is initialised by the caller."""

    def __init__(
        self, model: Any, settings: TrainSettings, device: torch.device, own: Mapping[str, Any] | None = None
    ) -> None:
        # Imported here: it takes seconds, and the other engines do without it.
        import deepspeed

        remove_stale_locks()
        self.device = device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        if settings.activation_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        config = deepspeed_config(settings, own or {})
        self._stage = int(config["zero_optimization"]["stage"])  # a JSON of one's own has the last word
        self._max_gradient_norm = settings.max_gradient_norm
        self._is_whole = settings.lora is None  # else the base's weights are there already: adapters are kept
        os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
        _cast(model, torch.bfloat16 if config["bf16"]["enabled"] else torch.float32)
        if self._stage == 3:
            # One parameter after the other goes to the device, and a shard of it stays: the whole model may
            # have no room there.
            deepspeed.zero.Init(module=model, config_dict_or_path=config)
            for buffer in model.buffers():
                buffer.data = buffer.data.to(device)
        else:
            model.to(device)
        self.model, self._optimizer, _, _ = deepspeed.initialize(
            model=model,
            optimizer=build_optimizer(model, settings),
            config=config,
            dist_init_required=False,
        )
        self.model.train()

    def backward(self, batch: dict[str, torch.Tensor], num_target_tokens: int, is_last: bool) -> float:
        """Add a micro-batch's gradients; return its part of the global batch's mean loss."""
        loss = target_loss(self.model, batch, num_target_tokens)
        # DeepSpeed takes the mean over the workers; the sum is wanted, since the divisor is global already.
        self.model.backward(loss * self.world_size)
        return float(loss.detach())

    def evaluate(self, batch: dict[str, torch.Tensor], num_target_tokens: int) -> float:
        """Return a micro-batch's part of a batch's mean loss, without gradients and dropout."""
        return evaluated_loss(self.model, batch, num_target_tokens)

    def step(self, learning_rate: float, max_gradient_norm: float) -> float:
        """Clip, step, clear; return the gradients' norm before clipping.

        The norm to clip to is the one that the engine was built with.
        """
        assert max_gradient_norm == self._max_gradient_norm
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self.model.step()
        return float(self.model.get_global_grad_norm() or 0.0)

    def sum(self, value: float) -> float:
        """Return the sum of a number over all workers."""
        return sum_over_workers(value, self.device)

    def save(self, folder: Path, state: dict[str, Any]) -> Written:
        """Write this worker's part; the folder may be one of each worker's own, to be merged later."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_checkpoint(
            str(folder),
            tag=TAG,
            client_state={"loop": state},
            save_latest=False,
            exclude_frozen_parameters=not self._is_whole,
        )
        if self.rank == 0:
            (folder / SHARDING_FILE).write_text(json.dumps(self._sharding), encoding="utf-8")
        return nothing_left

    def load(self, folder: Path) -> dict[str, Any]:
        """Take model and optimizer from a checkpoint; return the loop's state.

        ZeRO's shards are those of a number of workers and a stage: raises UserError for another.
        """
        written = json.loads((folder / SHARDING_FILE).read_text(encoding="utf-8"))
        if written != self._sharding:  # looked at first: DeepSpeed fails on it in words of its own
            raise UserError(
                f"the checkpoint is of {written['workers']} workers under ZeRO {written['stage']}, and "
                "DeepSpeed goes on with those alone: set them back, or remove the checkpoints (strategy fsdp "
                "can change its workers)"
            )
        _, stored = self.model.load_checkpoint(str(folder), tag=TAG, load_module_strict=self._is_whole)
        loop_state: dict[str, Any] = stored["loop"]
        return loop_state

    @property
    def _sharding(self) -> dict[str, int]:
        return {"workers": self.world_size, "stage": self._stage}

    def full_weights(self) -> dict[str, torch.Tensor]:
        """Return all weights on the first worker (on others an empty dictionary)."""
        import deepspeed

        weights: dict[str, torch.Tensor] = {}
        # Names that share a tensor (tied embeddings) stand here once each, as in a state dict.
        for name, parameter in self.model.module.named_parameters(remove_duplicate=False):
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3):
                if self.rank == 0:
                    weights[name] = parameter.detach().cpu().clone()
        return weights


def _cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Hold parameters in what is computed with, as DeepSpeed will; buffers stay as exact as they are."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
