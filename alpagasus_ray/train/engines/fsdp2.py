"""FSDP2: parameters, gradients and optimizer sharded over the workers, layer by layer."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.engines.base import (
    Written,
    build_optimizer,
    clip_and_step,
    evaluated_loss,
    nothing_left,
    sum_over_workers,
    target_loss,
)


class Fsdp2Engine:
    """One worker of a fully sharded model. torch.distributed is initialised by the caller."""

    def __init__(self, model: Any, settings: TrainSettings, device: torch.device) -> None:
        self.device = device
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        layers = decoder_layers(model)
        if settings.activation_checkpointing:
            kinds = {type(layer) for layer in layers}
            apply_activation_checkpointing(model, check_fn=lambda module: type(module) in kinds)
            layers = decoder_layers(model)
        self._reshards = reshards(settings, device)
        self.model = _shard(model, layers, settings, device)
        self.optimizer = build_optimizer(self.model, settings)
        is_whole = settings.lora is None  # else the base's weights are there already: adapters alone are kept
        self._kept = StateDictOptions(ignore_frozen_params=not is_whole, strict=is_whole)
        # Of their own: what workers tell each other on writing must not come between training's collectives.
        self._writers = dist.new_group(backend="gloo")
        self._written: Written = nothing_left
        self.model.train()

    def backward(self, batch: dict[str, torch.Tensor], num_target_tokens: int, is_last: bool) -> float:
        """Add a micro-batch's gradients; return its part of the global batch's mean loss."""
        if not self._reshards:
            self.model.set_requires_gradient_sync(is_last)
            self.model.set_reshard_after_backward(is_last)
        loss = target_loss(self.model, batch, num_target_tokens)
        # FSDP takes the mean over the workers; the sum is wanted, since the divisor is global already.
        (loss * self.world_size).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def evaluate(self, batch: dict[str, torch.Tensor], num_target_tokens: int) -> float:
        """Return a micro-batch's part of a batch's mean loss, without gradients and dropout."""
        loss = evaluated_loss(self.model, batch, num_target_tokens)
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # no backward pass does it, and a checkpoint may come next
        return loss

    def step(self, learning_rate: float, max_gradient_norm: float) -> float:
        """Clip, step, clear; return the gradients' norm before clipping."""
        return clip_and_step(self.model, self.optimizer, learning_rate, max_gradient_norm)

    def sum(self, value: float) -> float:
        """Return the sum of a number over all workers."""
        return sum_over_workers(value, self.device)

    def save(self, folder: Path, state: dict[str, Any]) -> Written:
        """Write this worker's shards; the folder may be one of each worker's own, to be merged later.

        They are copied to the host's memory first. One checkpoint is written at a time.
        """
        self._written()
        model_state, optimizer_state = get_state_dict(self.model, self.optimizer, options=self._kept)
        stored = {"model": model_state, "optimizer": optimizer_state, "loop": json.dumps(state)}
        future = async_save(stored, checkpoint_id=str(folder), process_group=self._writers)
        assert isinstance(future, Future)
        self._written = future.result
        return self._written

    def load(self, folder: Path) -> dict[str, Any]:
        """Take model and optimizer from a checkpoint of any number of workers; return the loop's state."""
        model_state, optimizer_state = get_state_dict(self.model, self.optimizer, options=self._kept)
        # What is loaded is what stands here: the loop's state is one text, so that it comes whole.
        stored: dict[str, Any] = {"model": model_state, "optimizer": optimizer_state, "loop": ""}
        load(stored, checkpoint_id=str(folder))
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=stored["model"],
            optim_state_dict=stored["optimizer"],
            options=self._kept,
        )
        loop_state: dict[str, Any] = json.loads(stored["loop"])
        return loop_state

    def full_weights(self) -> dict[str, torch.Tensor]:
        """Return all weights, or all adapters, on the first worker (on others an empty dictionary)."""
        weights = get_model_state_dict(
            self.model, options=replace(self._kept, full_state_dict=True, cpu_offload=True)
        )
        return {name: tensor for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """Return a causal language model's decoder layers: the longest ModuleList in it."""
    lists = [list(module) for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len, default=[])


def reshards(settings: TrainSettings, device: torch.device) -> bool:
    """Return whether each layer's gathered parameters are freed between forward and backward.

    Where workers share a host's memory and its cores, freeing saves little and gathering costs much.
    """
    if settings.reshard_after_forward is None:
        return device.type != "cpu"
    return settings.reshard_after_forward


def _shard(model: Any, layers: list[torch.nn.Module], settings: TrainSettings, device: torch.device) -> Any:
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy()
    if settings.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    shard = partial(
        fully_shard,
        mesh=mesh,
        mp_policy=policy,
        offload_policy=CPUOffloadPolicy() if settings.offload == "parameters" else OffloadPolicy(),
        # Weights in 4 bits are packed into integers with constants of their own: each worker has them whole.
        ignored_params={one for one in model.parameters() if not one.is_floating_point()},
    )
    is_resharded = reshards(settings, device)
    # The model is not moved to the device before: it may have no room for more than a layer and the shards.
    for layer in layers:
        shard(layer, reshard_after_forward=is_resharded)
    # None: the root's own parameters (embeddings, head) stay until the backward pass, which begins with them.
    return shard(model, reshard_after_forward=None if is_resharded else False)
