"""The arithmetic of a token, against figures that others have published."""

from __future__ import annotations

import pytest

from alpagasus_ray.recipe import LoraSettings, TrainSettings
from alpagasus_ray.train.flops import token_flops
from alpagasus_ray.train.model_shape import ModelShape

LLAMA_7B = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)
N = LLAMA_7B.multiplied_parameters


def test_a_token_takes_what_palms_formula_says() -> None:
    """6 N + 12 L H Q T (arXiv 2204.02311, appendix B), for 10 tokens of sequences of 512."""
    each = token_flops(LLAMA_7B, TrainSettings())
    assert each.of(10, 10 * 512) == 10 * (6 * N + 12 * 32 * 32 * 128 * 512)


def test_what_is_worked_out_again_counts_only_where_it_is_asked_for() -> None:
    plain, again = TrainSettings(), TrainSettings(activation_checkpointing=True)
    assert token_flops(LLAMA_7B, again) == token_flops(LLAMA_7B, plain)
    assert token_flops(LLAMA_7B, plain, recomputed=True) == token_flops(LLAMA_7B, plain)
    recomputed = token_flops(LLAMA_7B, again, recomputed=True)
    assert recomputed.weights == pytest.approx(8 / 6 * token_flops(LLAMA_7B, plain).weights)


def test_frozen_weights_have_no_gradients_of_their_own() -> None:
    adapted = TrainSettings(lora=LoraSettings(rank=8, targets=("q_proj", "v_proj")))
    assert token_flops(LLAMA_7B, adapted).weights == 4 * N + 6 * 4_194_304
