"""How many tokens a model takes, as vLLM will have it: what is told and what is handed on are one number."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.engine_settings import engine_arguments
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import ServedModel, read_config
from alpagasus_ray.serve.windows import Window, engine_window, own_lengths, window_of

LENGTH = {"max_position_embeddings": 4096}
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}
LAYERS = ("full_attention", "sliding_attention")
NESTED = {layer: {"rope_type": "default", "rope_theta": 1e4} for layer in LAYERS}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "vocab_size": 100,
    "pad_token_id": 0,
}


def engine(**arguments: Any) -> dict[str, Any]:
    return {"engine": arguments}


@pytest.mark.parametrize(
    ("config", "changed", "tokens", "assumed"),
    [
        (LENGTH, {}, 4096, 4096),
        (LENGTH, {"max_model_length_tokens": 512}, 512, 512),
        (LENGTH, {"max_model_length_tokens": 8192}, 4096, 4096),
        (LENGTH, engine(max_model_len=256), 256, 256),
        (LENGTH, engine(max_model_len=None), 4096, 4096),
        (LENGTH, engine(max_model_len=-1), None, 4096),
        (LENGTH, {"max_model_length_tokens": 512, **engine(max_model_len=2048)}, 2048, 2048),
        (LENGTH, engine(hf_overrides={}), 4096, 4096),
        (LENGTH, engine(hf_overrides={"max_position_embeddings": 1024}), 1024, 1024),
        ({**LENGTH, "rope_scaling": LLAMA3}, engine(hf_overrides={"rope_parameters": YARN}), 8192, 8192),
        ({**LENGTH, "rope_scaling": YARN}, {"max_model_length_tokens": 6000}, 6000, 6000),
        ({**LENGTH, "rope_scaling": YARN}, {"max_model_length_tokens": 200_000}, 8192, 8192),
        ({**LENGTH, "rope_parameters": NESTED}, {"max_model_length_tokens": 200_000}, 4096, 4096),
        ({**LENGTH, "rope_scaling": "odd"}, {}, None, 4096),
        ({**LENGTH, "rope_scaling": {"type": "linear", "factor": "two"}}, {}, None, 4096),
        ({"max_position_embeddings": True}, {}, None, None),
        ({"max_position_embeddings": None}, {}, None, None),
        ({}, {"max_model_length_tokens": 64}, 64, 64),
        ({}, {}, None, None),
    ],
)
def test_a_window_is_told_where_it_is_known(
    tmp_path: Path, config: dict[str, Any], changed: dict[str, Any], tokens: int | None, assumed: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = ServeSettings(**changed)
    assert engine_window(str(tmp_path), settings) == Window(tokens, assumed)
    is_handed = "max_model_length_tokens" in changed or changed.get("engine", {}).get("max_model_len")
    handed = engine_arguments(Engine(str(tmp_path), None), settings, on_gpu=True).get("max_model_len")
    assert handed == ((tokens or -1) if is_handed else None)


@pytest.mark.slow
@pytest.mark.parametrize("is_saved", [False, True], ids=["as written", "as transformers saves it"])
@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "llama", "rope_scaling": LLAMA3},
        {"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.5}},
        {"model_type": "llama", "rope_scaling": YARN},
        {"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"model_type": "qwen2", "max_position_embeddings": 32_768, "rope_scaling": YARN},
        {"model_type": "phi3", "original_max_position_embeddings": 512, "rope_scaling": LONGROPE},
        {"model_type": "llama", "rope_scaling": {**LONGROPE, "original_max_position_embeddings": 512}},
        {"model_type": "gemma3_text", "layer_types": LAYERS, "rope_parameters": NESTED},
        {
            "model_type": "gemma3_text",
            "layer_types": LAYERS,
            "rope_parameters": {**NESTED, LAYERS[0]: {"rope_type": "linear", "factor": 8.0}},
        },
        {"model_type": "gpt2", "n_positions": 1024, "n_embd": 32, "n_head": 4, "n_layer": 2},
    ],
    ids=lambda config: config["model_type"],
)
def test_lengths_are_those_of_vllm_itself(tmp_path: Path, config: dict[str, Any], is_saved: bool) -> None:
    """Its own function has the last word: where a newer vLLM thinks otherwise, this fails."""
    from transformers import AutoConfig
    from vllm.config.model import _get_and_verify_max_len
    from vllm.transformers_utils.config import patch_rope_parameters
    from vllm.transformers_utils.model_arch_config_convertor import ModelArchConfigConvertorBase

    length = {} if config["model_type"] == "gpt2" else LENGTH | SHAPE
    (tmp_path / "config.json").write_text(json.dumps({**length, **config}))
    loaded = AutoConfig.from_pretrained(str(tmp_path))
    if is_saved:
        loaded.save_pretrained(tmp_path)
        loaded = AutoConfig.from_pretrained(str(tmp_path))
    patch_rope_parameters(loaded)
    convertor = ModelArchConfigConvertorBase(loaded, loaded)
    arch = SimpleNamespace(derived_max_model_len_and_key=convertor.derive_max_model_len_and_key())

    def take(max_model_len: int | None) -> int:
        return _get_and_verify_max_len(loaded, arch, None, max_model_len, False, None)

    own = own_lengths(read_config(tmp_path))
    assert own.unasked == take(None)
    assert own.most is not None and take(own.most) == own.most
    with pytest.raises(ValueError, match="greater than the derived"):
        take(own.most + 1)


def test_a_model_behind_somebodys_endpoint_has_the_window_that_the_recipe_names(tmp_path: Path) -> None:
    model = ServedModel("full", str(tmp_path / "nowhere"))
    assert window_of(model, ServeSettings()) == Window(None, None)
    assert window_of(model, ServeSettings(max_model_length_tokens=64)) == Window(64, 64)
