"""How many tokens a model takes, as vLLM will have it: what is told and what is handed on are one number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.engine_settings import engine_arguments
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.windows import Window, engine_window, window_of

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [8.0]}
NESTED = {
    "full_attention": {"rope_type": "linear", "factor": 8},
    "sliding_attention": {"rope_type": "default"},
}


def asked(max_model_len: Any) -> dict[str, Any]:
    return {"engine": {"max_model_len": max_model_len}}


@pytest.mark.parametrize(
    ("config", "changed", "tokens", "at_least"),
    [
        ({}, {}, 4096, 4096),
        ({}, {"max_model_length_tokens": 512}, 512, 512),
        ({}, {"max_model_length_tokens": 8192}, 4096, 4096),
        ({}, asked(256), 256, 256),
        ({}, asked(-1), None, None),
        ({}, {"max_model_length_tokens": 512, **asked(2048)}, 2048, 2048),
        ({}, {"engine": {"hf_overrides": {}}}, 4096, 4096),
        ({}, {"engine": {"hf_overrides": {"max_position_embeddings": 1024}}}, 1024, 1024),
        ({}, {"engine": {"hf_overrides": {"rope_parameters": {"factor": 8}}}}, None, 4096),
        ({"rope_scaling": {"rope_type": "llama3"}}, {}, 4096, 4096),
        ({"rope_parameters": {"rope_type": "default"}}, {}, 4096, 4096),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, {}, None, 4096),
        ({"rope_parameters": {"rope_type": "yarn"}}, {}, None, 4096),
        ({"rope_parameters": {"rope_type": "yarn"}}, {"max_model_length_tokens": 8192}, 8192, 8192),
        ({"rope_parameters": NESTED}, {}, None, 4096),
        ({"rope_scaling": "odd"}, {}, None, 4096),
        ({"rope_scaling": LONGROPE, "original_max_position_embeddings": 1024}, {}, 1024, 1024),
        ({"rope_scaling": LONGROPE}, {}, None, None),
        (
            {"rope_scaling": LONGROPE, "original_max_position_embeddings": 1024},
            {"max_model_length_tokens": 3000},
            3000,
            3000,
        ),
        ({"max_position_embeddings": True}, {}, None, None),
        ({"max_position_embeddings": None}, {}, None, None),
    ],
)
def test_a_window_is_told_where_it_is_known(
    tmp_path: Path, config: dict[str, Any], changed: dict[str, Any], tokens: int | None, at_least: int | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096, **config}))
    settings = ServeSettings(**changed)
    assert engine_window(str(tmp_path), settings) == Window(tokens, at_least)
    is_handed = "max_model_length_tokens" in changed or "max_model_len" in changed.get("engine", {})
    handed = engine_arguments(Engine(str(tmp_path), None), settings, on_gpu=True).get("max_model_len")
    assert handed == ((tokens or -1) if is_handed else None)


def test_a_model_behind_somebodys_endpoint_has_the_window_that_the_recipe_names(tmp_path: Path) -> None:
    model = ServedModel("full", str(tmp_path / "nowhere"))
    assert window_of(model, ServeSettings()) == Window(None, None)
    assert window_of(model, ServeSettings(max_model_length_tokens=64)) == Window(64, 64)
