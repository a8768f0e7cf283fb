"""DeepSpeed's configuration: the recipe's words, and the user's own file over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.deepspeed_config import deepspeed_config, read_deepspeed_config


def made(own: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return deepspeed_config(TrainSettings(strategy="deepspeed", **settings), own or {})


def test_the_recipe_decides_stage_precision_and_clipping() -> None:
    config = made(zero_stage=3, precision="bf16", max_gradient_norm=0.5)
    assert config["zero_optimization"]["stage"] == 3
    assert (config["bf16"], config["gradient_clipping"]) == ({"enabled": True}, 0.5)
    assert made(precision="fp32")["bf16"] == {"enabled": False}


@pytest.mark.parametrize(
    ("offload", "devices"),
    [
        ("none", set()),
        ("optimizer", {"offload_optimizer"}),
        ("parameters", {"offload_optimizer", "offload_param"}),
    ],
)
def test_what_is_offloaded(offload: str, devices: set[str]) -> None:
    zero = made(zero_stage=3, offload=offload)["zero_optimization"]
    assert {name for name in zero if name.startswith("offload")} == devices


def test_ones_own_words_are_laid_over_it() -> None:
    own = {"zero_optimization": {"reduce_bucket_size": 5, "stage": 1}, "wall_clock_breakdown": True}
    config = made(own, zero_stage=2, offload="optimizer")
    assert config["zero_optimization"]["stage"] == 1
    assert config["zero_optimization"]["reduce_bucket_size"] == 5
    assert "offload_optimizer" in config["zero_optimization"], "what is not named stays"
    assert config["wall_clock_breakdown"] is True


def test_a_file_for_the_hugging_face_trainer_serves(tmp_path: Path) -> None:
    file = tmp_path / "zero2.json"
    file.write_text(
        json.dumps(
            {
                "bf16": {"enabled": "auto"},
                "train_batch_size": "auto",
                "gradient_clipping": "auto",
                "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "contiguous_gradients": True},
            }
        )
    )
    config = made(read_deepspeed_config(str(file)))
    assert "auto" not in json.dumps(config)
    assert config["zero_optimization"]["contiguous_gradients"] is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1, column 2"),
        ("[]", "JSON object"),
        ('{"train_batch_size": 64}', "train_batch_size: the recipe's train section decides this"),
        ('{"optimizer": {"type": "Lion"}, "gradient_clipping": 2}', "gradient_clipping, optimizer"),
    ],
)
def test_a_file_that_cannot_be_taken_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "own.json"
    file.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read_deepspeed_config(str(file))
    assert str(file) in str(caught.value)


def test_without_a_file_there_is_nothing_to_add(tmp_path: Path) -> None:
    assert read_deepspeed_config(None) == {}
    with pytest.raises(UserError, match=r"no\.json"):
        read_deepspeed_config(str(tmp_path / "no.json"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "fsdp", "deepspeed_config": "x.json"}, "goes with strategy deepspeed"),
        ({"strategy": "fsdp", "offload": "optimizer"}, "for fsdp say parameters"),
        ({"strategy": "deepspeed", "zero_stage": 2, "offload": "parameters"}, "zero_stage 3"),
        ({"strategy": "single", "workers": 1, "offload": "parameters"}, "fsdp or deepspeed"),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainSettings(**settings)
