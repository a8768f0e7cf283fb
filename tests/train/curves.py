"""Loss curves of several engines in one group: `torchrun -m tests.train.curves MODEL OUT SETTINGS ...`.

Starting Python, torch and DeepSpeed takes longer than the training: the engines take turns.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.adapters import adapter_weights
from alpagasus_ray.train.engines.base import Written
from alpagasus_ray.train.examples import build_examples
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.loop import Callbacks, train
from alpagasus_ray.train.metrics import StepMetrics
from alpagasus_ray.train.models import load_tokenizer
from alpagasus_ray.train.worker import ENGINES, model_to_train

STEPS = 20
ROWS_A_STEP = 8
HELD_OUT_ROWS = 7
CPU = torch.device("cpu")


def curve(folder: str, checkpoint: Path | None = None, **how: Any) -> dict[str, Any]:
    """Return the losses of 20 steps, and what the engine leaves; with a folder, saved in the middle."""
    own = how.pop("own", {})
    settings = TrainSettings(
        epochs=1,
        learning_rate=1e-3,
        global_batch_size=ROWS_A_STEP,
        max_length_tokens=256,
        precision="fp32",
        checkpoint_every_steps=STEPS // 2,
        **how,
    )
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder)
    examples, _ = build_examples(generate_rows(ROWS_A_STEP * STEPS, 0.5, 2), tokenizer, 256)
    held_out, _ = build_examples(generate_rows(HELD_OUT_ROWS, 0.5, 9), tokenizer, 256)
    job = TrainJob(folder, "", "", settings, deepspeed=own)
    engine = ENGINES[settings.strategy](model_to_train(job, tokenizer), job, CPU)
    state = engine.load(checkpoint) if checkpoint and checkpoint.exists() else None
    steps: list[StepMetrics] = []
    writing: list[Written] = []

    def save(loop_state: dict[str, Any], _: Any) -> None:
        if checkpoint is not None and loop_state["step"] == STEPS // 2:
            writing.append(engine.save(checkpoint, loop_state))

    callbacks = Callbacks(steps.append, save)
    train(engine, examples, settings, tokenizer.pad_token_id, callbacks, state, validation=held_out)
    for written in writing:  # training has gone on in the meantime
        written()
    weights = engine.full_weights()
    if settings.lora is not None:  # not every engine gathers what was not trained
        weights = adapter_weights(weights)
    return {
        "losses": [metrics.loss for metrics in steps],
        "validation": [loss for metrics in steps if (loss := metrics.validation_loss) is not None],
        "tensors": sorted(weights),
        "stored": _stored_bytes(checkpoint),
        "sum": float(sum(tensor.double().abs().sum() for tensor in weights.values())),
    }


def _stored_bytes(checkpoint: Path | None) -> int:
    """Return how large a checkpoint is, all workers' shards together."""
    if checkpoint is None:
        return 0
    return sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())


def main() -> None:
    """Write each curve, and those that go on from the middle, into a JSON file."""
    folder, out, *names = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    shared = [tempfile.mkdtemp()]
    dist.broadcast_object_list(shared)
    found = {}
    for name in names:
        how = json.loads(name)
        checkpoint = Path(shared[0]) / str(len(found))
        found[name] = curve(folder, checkpoint, **how)
        found[f"{name} resumed"] = curve(folder, checkpoint, **how)
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
