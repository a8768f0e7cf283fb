from __future__ import annotations

import json
from pathlib import Path

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.serve.model_folder import (
    ServedModel,
    check_adapter_folder,
    check_model_folder,
    check_names_differ,
    is_adapter,
    models_named_by_folder,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def test_a_full_folder_is_accepted(folder: Path) -> None:
    check_model_folder(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_what_is_missing_is_named(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=message):
        check_model_folder(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no model folder .*nowhere"):
        check_model_folder(tmp_path / "nowhere")


def test_an_adapter_is_told_from_a_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert not is_adapter(folder), "a model that an adapter was merged into"
    (folder / "config.json").unlink()
    assert is_adapter(folder)
    with pytest.raises(UserError, match="has no weights"):
        check_adapter_folder(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    check_adapter_folder(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json"):
        check_model_folder(folder)


def test_every_shard_of_the_index_must_be_there(folder: Path) -> None:
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model-1.safetensors").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"lacks 1 of its weight files, among them model-2\.safetensors"):
        check_model_folder(folder)
    (folder / "model-2.safetensors").write_bytes(b"weights")
    check_model_folder(folder)


def test_an_empty_weight_file_is_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="has no weights"):
        check_model_folder(folder)


def test_models_are_named_by_their_folders() -> None:
    models = models_named_by_folder(["runs/a/models/full", "runs/a/models/random-9k/"])
    assert models == (
        ServedModel("full", "runs/a/models/full"),
        ServedModel("random-9k", "runs/a/models/random-9k/"),
    )


def test_an_address_names_a_model_without_its_options() -> None:
    (model,) = models_named_by_folder(["s3://bucket/models/full/?region=eu-west-1"])
    assert model.name == "full"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("7b:chat", "a colon"),
        ("m#1", "a hash"),
        ("a?b", "a question mark"),
        ("", "it is none"),
        (" ", "it is none"),
        ("..", "it is none"),
        ("a\nb", "cannot be printed"),
        ("a\x1b[2J", "cannot be printed"),
        ("müller", "hold ASCII alone"),
    ],
)
def test_a_name_that_would_be_taken_apart_is_refused_in_one_line(name: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        check_names_differ([ServedModel(name, "models/some")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["full", "random-9.2k", "a--b", "my model"])
def test_ordinary_names_are_taken(name: str) -> None:
    check_names_differ([ServedModel(name, "models/some")])


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Models")
    with pytest.raises(UserError, match=r"README\.md is a file: name the folder of a model"):
        check_model_folder(tmp_path / "README.md")


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match='Two models are called "full"'):
        models_named_by_folder(["a/full", "b/full"])


def test_no_model_is_refused() -> None:
    with pytest.raises(UserError, match="no model to serve"):
        check_names_differ([])
