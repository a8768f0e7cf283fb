"""Bad input gets one line before a worker starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.corpus.row_forms import ALPACA
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train import checking
from alpagasus_ray.train.base_models import check_weights
from alpagasus_ray.train.checking import check_cluster, check_inputs, check_rows, check_shape, worker_resource
from alpagasus_ray.train.job import TrainJob

ROWS = generate_rows(40, 0.5, 0)


def settings(**train: Any) -> TrainSettings:
    return TrainSettings.model_validate({"global_batch_size": 16, "precision": "fp32", **train})


# The cluster.


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch were a CUDA build: the cards themselves are the cluster's."""
    monkeypatch.setattr(checking, "torch_has_cuda", lambda: True)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("cards", [["T4"], ["V100", "P100"]])
def test_bf16_is_refused_where_no_card_knows_it(cards: list[str]) -> None:
    resources = {"CPU": 8.0, "GPU": 2.0, **{f"accelerator_type:{card}": 1.0 for card in cards}}
    with pytest.raises(UserError, match=rf"bf16.*{sorted(cards)[0]}.*fp32"):
        check_cluster(settings(precision="bf16"), resources)
    check_cluster(settings(precision="fp32"), resources)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("cards", [["A100"], ["T4", "H100"], []])
def test_bf16_passes_where_a_card_may_know_it(cards: list[str]) -> None:
    resources = {"GPU": 2.0, **{f"accelerator_type:{card}": 1.0 for card in cards}}
    check_cluster(settings(precision="bf16"), resources)


def test_workers_and_offload_want_what_is_there() -> None:
    check_cluster(settings(workers=2, precision="bf16"), {"CPU": 2.0})
    with pytest.raises(UserError, match=r"3 workers.*2 CPUs.*--workers 2"):
        check_cluster(settings(workers=3), {"CPU": 2.0})
    with pytest.raises(UserError, match="no GPUs"):
        check_cluster(settings(offload="parameters"), {"CPU": 2.0})


def test_gpus_that_come_when_they_are_asked_for_have_to_be_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "torch_has_cuda", lambda: True)
    there = {"CPU": 8.0}
    assert worker_resource(settings(), there) == "CPU"
    assert worker_resource(settings(accelerator="gpu"), there) == "GPU"
    assert worker_resource(settings(accelerator="cpu"), {"CPU": 8.0, "GPU": 8.0}) == "CPU"
    with pytest.raises(UserError, match=r"2 workers and the cluster has 0 GPUs.*wait_for_nodes_s"):
        check_cluster(settings(accelerator="gpu"), there)
    monkeypatch.setattr(checking, "torch_has_cuda", lambda: False)
    with pytest.raises(UserError, match=r"train\.accelerator.*CUDA"):
        worker_resource(settings(accelerator="gpu"), there)


def test_zero_has_no_4_bits() -> None:
    with pytest.raises(ValueError, match=r"lora\.quantization goes with strategy single or fsdp"):
        settings(lora={"quantization": "nf4"}, strategy="deepspeed", zero_stage=3)


def test_what_is_held_out_is_not_there_to_be_trained_on() -> None:
    rows = generate_rows(20, 0.5, 1)
    assert check_rows(rows, ALPACA, settings(validation_share=0.2)) is None
    with pytest.raises(UserError, match=r"15 rows to train on \(without 5 held out"):
        check_rows(rows, ALPACA, settings(validation_share=0.25))


def test_rows_beyond_the_models_positions_are_told() -> None:
    config = {"model_type": "anything", "max_position_embeddings": 128}
    check_shape(config, settings(max_length_tokens=128))
    with pytest.raises(UserError, match=r"max_length_tokens is 129.*end at 128"):
        check_shape(config, settings(max_length_tokens=129))


def test_adapters_on_layers_that_are_not_there_are_told(tiny_model: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    check_shape(config, settings(lora={"targets": ["o_proj"]}))
    with pytest.raises(UserError, match="foo_proj"):
        check_shape(config, settings(lora={"targets": ["foo_proj"]}))


# The rows.


def test_rows_with_an_empty_target_are_set_aside_and_counted() -> None:
    bad = [{**ROWS[0], "output": " "}, {**ROWS[1], "output": ""}, {"instruction": "Add."}]
    told = check_rows([*ROWS, *bad], ALPACA, settings())
    assert told == "3 rows are set aside: 2 (output is empty), 1 (output is missing)"
    assert check_rows(ROWS, ALPACA, settings()) is None


def test_an_arm_with_fewer_rows_than_a_global_batch_is_refused() -> None:
    check_rows(ROWS, ALPACA, settings(global_batch_size=40))
    with pytest.raises(UserError, match=r"40 rows to train on and a global batch takes 41: lower"):
        check_rows(ROWS, ALPACA, settings(global_batch_size=41))
    rows = [*ROWS, {**ROWS[0], "output": ""}]
    with pytest.raises(UserError, match=r"40 rows.*without 1 \(output is empty\).*41"):
        check_rows(rows, ALPACA, settings(global_batch_size=41))


# The base model, its tokenizer, and both with the rows.


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "base"))


def check(base: Path, rows: list[dict[str, str]] = ROWS, **train: Any) -> str | None:
    train_file = base.parent / "train.json"
    train_file.write_text(json.dumps(rows))
    return check_inputs(TrainJob(str(base), str(train_file), "", settings(**train)))


def refused(base: Path, **train: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(base, **train)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.slow
def test_a_sound_model_and_rows_pass(base: Path) -> None:
    assert check(base) is None
    assert "1 (output is empty)" in str(check(base, [*ROWS, {**ROWS[0], "output": ""}]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        "{}",
        "[]",
        "{",
        '{"model_type": "nobody"}',
        '{"model_type": "vit"}',
        '{"model_type": "llama", "hidden_size": "wide"}',
    ],
)
def test_a_config_of_no_language_model_is_told(base: Path, config: str) -> None:
    (base / "config.json").write_text(config)
    assert "config.json is no language model's" in refused(base)


@pytest.mark.slow
def test_a_folder_without_weights_is_told(base: Path) -> None:
    (base / "model.safetensors").rename(base / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = base / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    assert "model-00002-of-00002.safetensors is missing, one of 2 files" in refused(base)
    index.write_text(json.dumps({"weight_map": {"a": parts["a"]}}))
    assert check(base) is None
    index.unlink()
    (base / "model-00001-of-00002.safetensors").rename(base / "weights.txt")
    assert "no weights are there" in refused(base)


def test_of_a_hub_name_it_is_not_known_what_weights_there_are() -> None:
    check_weights("nobody/nothing", "nobody/nothing")


@pytest.mark.slow
def test_a_folder_without_a_tokenizer_is_told(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    assert "no tokenizer can be loaded" in refused(base)


@pytest.mark.slow
def test_a_tokenizer_of_another_model_is_told(base: Path) -> None:
    num_tokens = json.loads((base / "config.json").read_text())["vocab_size"]
    changed_json(base / "config.json", vocab_size=num_tokens - 10)
    told = refused(base)
    assert f"{num_tokens:,} tokens" in told and f"{num_tokens - 10:,}" in told


@pytest.mark.slow
def test_only_a_pad_token_may_stand_behind_the_embeddings(base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(base)
    assert check(base) is None
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(base)
    assert "it is another model's" in refused(base)


@pytest.mark.slow
def test_a_tokenizer_that_ends_every_text_in_eos_is_told(base: Path) -> None:
    eos = {"id": "</s>", "ids": [0], "tokens": ["</s>"]}
    ending = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    processor = {
        "type": "TemplateProcessing",
        "single": ending,
        "pair": ending,
        "special_tokens": {"</s>": eos},
    }
    processor["pair"] = [*ending, {"Sequence": {"id": "B", "type_id": 1}}]
    changed_json(base / "tokenizer.json", post_processor=processor)
    assert "add_eos_token" in refused(base)


@pytest.mark.slow
def test_template_chat_wants_a_chat_template(base: Path) -> None:
    assert "no chat template" in refused(base, template="chat")
