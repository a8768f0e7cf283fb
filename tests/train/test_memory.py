"""Memory per GPU: ZeRO's own arithmetic, what each setting saves, and what a real pass keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.memory import GIB, Memory, Pass, memory_of
from alpagasus_ray.train.model_shape import ModelShape, read_model_shape

SHAPE = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)
N = SHAPE.parameters
BUCKET = 2 * 500_000_000
"""DeepSpeed's, in bfloat16."""
PASS = Pass(2048, 1024)


def memory(own: dict[str, Any] | None = None, **settings: Any) -> Memory:
    return memory_of(SHAPE, TrainSettings.model_validate(settings), PASS, own)


def state(of: Memory) -> float:
    return of.parameters + of.gradients + of.optimizer_state


@pytest.mark.parametrize(
    ("stage", "expected"),
    [(1, 4 * N + 12 * N / 64), (2, 2 * N + 14 * N / 64), (3, 16 * N / 64 + 2 * 1_000_000_000)],
)
def test_zero_keeps_what_its_paper_says(stage: int, expected: float) -> None:
    """ZeRO's figure 1: 4, 2 and 0 bytes of a parameter everywhere, 12, 14 and 16 shared out; and buffers."""
    made = memory(strategy="deepspeed", zero_stage=stage, workers=64)
    assert state(made) == pytest.approx(expected + BUCKET)


def test_one_process_has_16_bytes_of_a_parameter_in_float32() -> None:
    assert state(memory(strategy="single", workers=1, precision="fp32")) == 16 * N


def test_fsdp_shares_16_bytes_out_and_gathers_two_layers_and_the_embeddings() -> None:
    few, many = (memory(workers=workers) for workers in (2, 4))
    assert state(few) - state(many) == pytest.approx(16 * N / 4)
    layer = SHAPE.layer_parameters
    root = N - 32 * layer
    assert many.parameters == pytest.approx(4 * N / 4 + 2 * (root + 2 * layer))
    whole = memory(workers=4, reshard_after_forward=False)
    assert whole.parameters == pytest.approx(4 * N / 4 + 2 * N)
    assert whole.gradients == pytest.approx(memory(workers=4).gradients + 4 * N), "whole until the step"


def test_what_is_offloaded_is_in_the_host() -> None:
    here = memory(workers=4)
    there = memory(workers=4, offload="parameters")
    assert state(here) - state(there) == pytest.approx(16 * N / 4)
    assert there.host >= 16 * N / 4
    zero = memory(strategy="deepspeed", zero_stage=2, workers=4, offload="optimizer")
    assert zero.optimizer_state == 0
    assert (zero.parameters, zero.gradients) == (2 * N, BUCKET)


def test_a_deepspeed_file_of_ones_own_counts() -> None:
    own = {"zero_optimization": {"stage": 3, "reduce_bucket_size": 200_000_000}}
    made = memory(own, strategy="deepspeed", zero_stage=2, workers=4)
    assert made.gradients == pytest.approx(2 * N / 4 + 2 * 200_000_000)
    assert made.parameters < 2 * N


def test_stage_0_shares_nothing_out() -> None:
    own = {"zero_optimization": {"stage": 0}}
    assert state(memory(own, strategy="deepspeed", workers=64)) == pytest.approx(16 * N + BUCKET)


def test_adapters_alone_have_gradients_and_moments() -> None:
    made = memory(strategy="single", workers=1, lora={"rank": 8, "targets": ["q_proj", "v_proj"]})
    assert (made.gradients, made.optimizer_state) == (4 * 4_194_304, 8 * 4_194_304)


def test_nf4_holds_the_layers_in_an_eighth() -> None:
    whole, small = (
        memory(strategy="single", workers=1, lora={"quantization": quantization})
        for quantization in ("none", "nf4")
    )
    linear = 32 * SHAPE.layer_linear_parameters
    assert whole.loading - small.loading == pytest.approx((4 - 4.127 / 8) * linear)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"micro_batch_size": 4}, {"activation_checkpointing": True}),
        ({"workers": 2}, {"workers": 8}),
        ({"precision": "fp32"}, {"precision": "bf16"}),
        ({"reshard_after_forward": False}, {"reshard_after_forward": True}),
        ({}, {"offload": "parameters"}),
        ({}, {"lora": {}}),
    ],
)
def test_what_is_said_to_save_memory_does(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert memory(**after).total < memory(**before).total


def test_4_bit_weights_are_whole_in_every_fsdp_worker_and_the_rest_is_shared_out() -> None:
    few, many = (memory(workers=workers, lora={"quantization": "nf4"}) for workers in (2, 4))
    assert many.parameters > 4.127 / 8 * 32 * SHAPE.layer_linear_parameters
    shared = N - 32 * SHAPE.layer_linear_parameters + SHAPE.adapter_parameters(64, "all-linear")
    assert few.parameters - many.parameters == pytest.approx(4 * shared / 4)
    assert many.total < memory(workers=4, lora={}).total


def test_what_is_sharded_as_it_is_loaded_needs_no_room_for_the_whole_model_on_a_gpu() -> None:
    zero = memory(strategy="deepspeed", zero_stage=3, workers=64)
    assert zero.loading == pytest.approx(2 * N / 64 + 2 * 32000 * 4096), "its largest matrix is an embedding"
    there = memory(strategy="deepspeed", zero_stage=3, workers=64, offload="parameters")
    assert there.loading == 2 * 32000 * 4096
    assert memory(strategy="deepspeed", zero_stage=2, workers=64).loading == 2 * N
    assert memory(strategy="single", workers=1).loading == 4 * N
    fsdp = memory(workers=64)
    layer = 4 * max(SHAPE.layer_parameters, SHAPE.embedding_parameters)
    assert fsdp.loading == pytest.approx(4 * N / 64 + layer)
    for made in (zero, fsdp):
        assert made.peak == made.total
        assert made.host >= 4 * N, "it is loaded there"


def test_the_parts_add_up() -> None:
    told = memory(workers=4).to_dict()
    parts = ("parameters", "gradients", "optimizer_state", "activations", "logits", "overhead")
    assert told["total_gib"] == pytest.approx(sum(told[f"{part}_gib"] for part in parts), abs=0.01)
    assert told["logits_gib"] == pytest.approx(12 * 32000 * 1024 / GIB, abs=0.001)


@pytest.mark.slow
def test_the_layers_keep_what_the_formula_says(tiny_model: Path) -> None:
    """One forward pass in float32: every tensor that autograd saves, without the parameters."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    ids = torch.arange(2 * 256).reshape(2, 256) % 1000
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = model.model(input_ids=ids, use_cache=False)
    measured = sum(storage.nbytes() for storage in saved.values())
    settings = TrainSettings(strategy="single", workers=1, precision="fp32")
    shape = read_model_shape(tiny_model / "config.json")
    told = memory_of(shape, settings, Pass(ids.numel(), 0)).activations
    assert told == pytest.approx(measured, rel=0.15), kept
