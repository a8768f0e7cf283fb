"""How long a prompt benchmarks send to a model: never more than it takes, and no less than they may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.benchmarking import DEFAULT_LENGTH_TOKENS, served_targets
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.endpoint import Endpoint
from tests.serve.test_engines import make_model

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("config", "serve", "length_tokens"),
    [
        ({"max_position_embeddings": 8192}, {}, 8192),
        ({"max_position_embeddings": 8192}, {"max_model_length_tokens": 512}, 512),
        ({"max_position_embeddings": 32_768, "rope_parameters": YARN}, {}, 131_072),
        ({"max_position_embeddings": 1024}, {"engine": {"max_model_len": -1}}, 1024),
        ({"max_position_embeddings": 1024, "rope_parameters": {"rope_type": ["odd"]}}, {}, 1024),
        (
            {"max_position_embeddings": 8192},
            {"engine": {"hf_overrides": {"max_position_embeddings": 1024}}},
            1024,
        ),
        ({}, {}, DEFAULT_LENGTH_TOKENS),
    ],
)
def test_prompts_are_as_long_as_the_model_takes(
    tmp_path: Path, config: dict[str, Any], serve: dict[str, Any], length_tokens: int
) -> None:
    model = make_model(tmp_path / "full")
    (tmp_path / "full" / "config.json").write_text(json.dumps(config))
    endpoint = Endpoint("http://127.0.0.1:1/v1", ("full",))
    (target,) = served_targets({"full": model.folder}, endpoint, ServeSettings(**serve))
    assert target.max_length_tokens == length_tokens
