"""A model that looks across a pack's rows is not given packs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.packs_apart import with_packing

pytestmark = pytest.mark.slow
GPU = torch.device("cuda")
EXAMPLES = [Example(tuple(range(start, start + 12)), 4) for start in (3, 30, 60)]
SIZES: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "num_attention_heads": 4}
LAYERS: dict[str, Any] = {"num_hidden_layers": 2, "intermediate_size": 64}


def model(kind: str) -> Any:
    torch.manual_seed(0)
    return {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **LAYERS)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, **LAYERS, num_key_value_heads=2)),
        "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=100, hidden_size=32, n_head=4, n_layer=2)),
        "opt": lambda: OPTForCausalLM(
            OPTConfig(**SIZES, num_hidden_layers=2, ffn_dim=64, word_embed_proj_dim=32)
        ),
    }[kind]()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_who_goes_by_positions_gets_packs(kind: str) -> None:
    assert with_packing(model(kind), EXAMPLES, TrainSettings(packing=True), GPU).packing is True
    assert with_packing(model(kind), EXAMPLES, TrainSettings(), GPU).packing is True


@pytest.mark.parametrize("kind", ["bloom", "opt"])
def test_who_does_not_is_trained_without_or_refused(kind: str) -> None:
    assert with_packing(model(kind), EXAMPLES, TrainSettings(), GPU).packing is False
    with pytest.raises(UserError, match=rf"{kind} lets the rows of a pack see each other.*packing=false"):
        with_packing(model(kind), EXAMPLES, TrainSettings(packing=True), GPU)


def test_on_cpus_nothing_is_packed_unless_it_is_asked_for() -> None:
    assert with_packing(model("bloom"), EXAMPLES, TrainSettings(), torch.device("cpu")).packing is False
