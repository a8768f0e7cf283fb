"""The size of a model by its config.json, against published counts and against the model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.model_shape import read_model_shape, shape_of

LLAMA_7B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
LLAMA_13B = {
    **LLAMA_7B,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
LLAMA_32_1B = {
    **LLAMA_7B,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "head_dim": 64,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(
    ("config", "published"),
    [(LLAMA_7B, 6_738_415_616), (LLAMA_13B, 13_015_864_320), (LLAMA_32_1B, 1_235_814_400)],
)
def test_the_parameters_are_the_published_ones(config: dict[str, Any], published: int) -> None:
    assert shape_of(config, "config.json").parameters == published


def test_an_input_embedding_is_looked_up_and_a_tied_one_is_the_head_too() -> None:
    untied, tied = shape_of(LLAMA_7B, "c"), shape_of(LLAMA_32_1B, "c")
    assert untied.parameters - untied.multiplied_parameters == 32000 * 4096
    assert tied.parameters == tied.multiplied_parameters


def test_a_config_that_is_silent_on_ties_has_its_familys() -> None:
    silent = {key: value for key, value in LLAMA_7B.items() if key != "tie_word_embeddings"}
    assert not shape_of({**silent, "model_type": "llama"}, "c").is_tied
    assert shape_of({**silent, "model_type": "gemma2"}, "c").is_tied


def test_the_originals_adapters_have_4_194_304_parameters() -> None:
    """Rank 8 on q_proj and v_proj of 7B, as peft prints it for Alpaca-LoRA."""
    assert shape_of(LLAMA_7B, "c").adapter_parameters(8, ("q_proj", "v_proj")) == 4_194_304


def test_all_linear_is_every_layer_but_the_head() -> None:
    shape = shape_of(LLAMA_7B, "c")
    each = 4 * (4096 + 4096) + 3 * (4096 + 11008)
    assert shape.adapter_parameters(64, "all-linear") == 64 * 32 * each


def test_a_target_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r'no layer v_prj\. Did you mean "v_proj"'):
        shape_of(LLAMA_7B, "c").adapter_parameters(8, ("self_attn.q_proj", "v_prj"))


@pytest.mark.parametrize("key", [key for key in LLAMA_7B if key != "tie_word_embeddings"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({name: value for name, value in LLAMA_7B.items() if name != key}))
    with pytest.raises(UserError, match=f"{key} is missing") as caught:
        read_model_shape(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"n_embd": 768, "n_layer": 12}, "hidden_size is missing"),
        ({**LLAMA_7B, "hidden_size": "4096"}, "hidden_size is '4096'"),
        ({**LLAMA_7B, "num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({**LLAMA_7B, "num_local_experts": 8}, "mixtures of experts"),
    ],
)
def test_a_model_of_another_form_is_refused_in_one_line(config: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        shape_of(config, "config.json")


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        read_model_shape(tmp_path / "config.json")


@pytest.mark.slow
def test_the_formula_is_right_for_a_model_that_is_loaded(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    shape = read_model_shape(tiny_model / "config.json")
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    sizes = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if name.endswith("_proj")
    }
    assert shape.linear_sizes == sizes
