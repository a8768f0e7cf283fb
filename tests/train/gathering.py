"""What stands whole and what in shards between FSDP2's passes: `-m tests.train.gathering MODEL OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.collate import collate
from alpagasus_ray.train.engines.fsdp2 import Fsdp2Engine
from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.models import load_model, load_tokenizer

CPU = torch.device("cpu")


def shares(choice: bool | None, folder: str) -> list[list[float] | float]:
    """Return, after a first and a last pass, the shares of parameters sharded and reduced; then the norm."""
    settings = TrainSettings(precision="fp32", reshard_after_forward=choice)
    engine = Fsdp2Engine(load_model(folder, load_tokenizer(folder)), settings, CPU)
    batch = collate([Example(tuple(range(10, 30)), 5)], ((0,),), 0, CPU)
    seen: list[list[float] | float] = []
    for is_last in (False, True):
        engine.backward(batch, 15, is_last)
        parameters = list(engine.model.parameters())
        sharded = [one for one in parameters if isinstance(one, DTensor)]
        reduced = [one for one in sharded if one.grad is not None]
        seen.append([len(sharded) / len(parameters), len(reduced) / len(parameters)])
    return [*seen, engine.step(1e-3, 1.0)]


def main() -> None:
    """Write the shares of each choice of `reshard_after_forward` into a JSON file."""
    folder, out = sys.argv[1:]
    dist.init_process_group("gloo")
    seen = {str(choice): shares(choice, folder) for choice in (None, True, False)}
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(seen))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
