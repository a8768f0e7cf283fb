"""DeepSpeed's configuration: the recipe's words, and the user's own file over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.checking import check_cluster
from alpagasus_ray.train.deepspeed_config import deepspeed_config, offloaded, read_deepspeed_config
from alpagasus_ray.train.deepspeed_presets import PRESETS
from alpagasus_ray.train.memory import Pass, memory_of
from alpagasus_ray.train.model_shape import ModelShape

LLAMA_7B = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)


def read(file: str | Path | None, **settings: Any) -> dict[str, Any]:
    name = None if file is None else str(file)
    return read_deepspeed_config(
        TrainSettings(**{"strategy": "deepspeed", "deepspeed_config": name, **settings})
    )


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
                "fp16": {"enabled": "auto", "loss_scale": 0},
                "train_batch_size": "auto",
                "gradient_clipping": "auto",
                "zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "contiguous_gradients": True},
            }
        )
    )
    config = made(read(file))
    assert "auto" not in json.dumps(config)
    assert config["bf16"] == {"enabled": True}, "what is auto there is the recipe's"
    assert config["fp16"] == {"loss_scale": 0}
    assert config["zero_optimization"]["contiguous_gradients"] is True


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1, column 2"),
        ("[]", "JSON object"),
        ('{"train_batch_size": 64}', "train_batch_size: the recipe's train section decides this"),
        ('{"optimizer": {"type": "Lion"}, "gradient_clipping": 2}', "gradient_clipping, optimizer"),
        ('{"zero_optimization": 5}', "zero_optimization is 5: a JSON object"),
        ('{"zero_optimization": null}', "zero_optimization is null: a JSON object"),
        ('{"zero_optimization": {"stage": "3"}}', 'stage is "3": 0, 1, 2 or 3'),
        ('{"zero_optimization": {"stage": 7}}', "stage is 7: 0, 1, 2 or 3"),
        ('{"zero_optimization": {"stage": true}}', "stage is true: 0, 1, 2 or 3"),
        ('{"zero_optimization": {"offload_optimizer": "cpu"}}', 'offload_optimizer is "cpu": a JSON object'),
        ('{"zero_optimization": {"offload_optimizer": {"device": "disk"}}}', 'device is "disk"'),
        ('{"zero_optimization": {"offload_optimizer": {"device": []}}}', r"device is \[\]"),
        ('{"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}', "nvme_path"),
        ('{"zero_optimization": {"offload_param": {"device": "cpu"}}}', "stage 3, and here it is 2"),
        ('{"zero_optimization": {"reduce_bucket_size": "big"}}', 'reduce_bucket_size is "big": a count'),
        ('{"zero_optimization": {"sub_group_size": 1.5}}', "sub_group_size is 1.5: a count"),
        ('{"zero_optimization": {"overlap_comm": 1}}', "overlap_comm is 1: true or false"),
        ('{"bf16": true}', "bf16 is true: a JSON object"),
        ('{"bf16": null}', "bf16 is null: a JSON object"),
        ('{"fp16": {"enabled": "yes"}}', 'fp16.enabled is "yes": true or false'),
        ('{"fp16": {"enabled": true}}', "fp16.enabled is true and train.precision is bf16: leave fp16 out"),
        ('{"bf16": {"enabled": false}}', "bf16.enabled is false and train.precision is bf16: leave bf16 out"),
    ],
)
def test_a_file_that_cannot_be_taken_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "own.json"
    file.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        read(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "text"),
    [
        ("bf16", '{"bf16": {"enabled": true}, "fp16": {"enabled": false}}'),
        ("fp32", '{"bf16": {"enabled": false}, "bfloat16": {"enabled": "auto"}}'),
        ("fp32", '{"zero_optimization": {"stage": 3, "reduce_bucket_size": 2e8, "offload_param": null}}'),
    ],
)
def test_what_is_the_recipes_own_word_may_stand_there(tmp_path: Path, precision: str, text: str) -> None:
    file = tmp_path / "own.json"
    file.write_text(text)
    own = read(file, precision=precision)
    assert own == json.loads(text)
    assert made(own, precision=precision)["bf16"] == {"enabled": precision == "bf16"}


PUBLISHED = [
    ("alpagasus-7b", 2, "optimizer"),
    ("alpagasus-13b", 3, "optimizer"),
    ("alpagasus-33b", 3, "parameters"),
    ("alpagasus-65b", 3, "optimizer"),
]


@pytest.mark.parametrize(("name", "stage", "what"), PUBLISHED)
def test_the_published_settings_have_names(name: str, stage: int, what: str) -> None:
    own = read(name)
    settings = TrainSettings(strategy="deepspeed", deepspeed_config=name, workers=4)
    zero = deepspeed_config(settings, own)["zero_optimization"]
    assert (zero["stage"], offloaded(settings, own)) == (stage, what)
    memory = memory_of(LLAMA_7B, settings, Pass(2048, 1024), own)
    assert memory.optimizer_state == 0 and memory.host >= 12 * LLAMA_7B.parameters / 4
    assert (memory.parameters < 2.1e9) == (what == "parameters"), "the live ones alone, 2 bytes each"
    if stage == 2:
        assert zero["reduce_bucket_size"] == zero["allgather_bucket_size"] == 200_000_000
    else:
        assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    with pytest.raises(UserError, match="no GPUs"):
        check_cluster(settings, {"CPU": 4.0}, own)


def test_a_name_that_is_none_is_told() -> None:
    assert {name for name, *_ in PUBLISHED} == set(PRESETS)
    with pytest.raises(UserError, match=r'no file alpagasus-30b.*Did you mean "alpagasus-33b"'):
        read("alpagasus-30b")
    with pytest.raises(ValueError, match="goes with strategy deepspeed"):
        read("alpagasus-7b", strategy="fsdp")


def test_without_a_file_there_is_nothing_to_add(tmp_path: Path) -> None:
    assert read(None) == {}
    with pytest.raises(UserError, match=r"no\.json"):
        read(tmp_path / "no.json")


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
