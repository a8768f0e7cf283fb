from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from alpagasus_ray.errors import UserError
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ServedModel


def make_model(folder: Path, template: str | None = None) -> ServedModel:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    _write_template(folder, template)
    return ServedModel(folder.name, str(folder))


def make_adapter(
    folder: Path, base: Path | str | None, template: str | None = None, **config: Any
) -> ServedModel:
    folder.mkdir()
    named = None if base is None else str(base)
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": named, "r": 8, **config})
    )
    save_file({}, folder / "adapter_model.safetensors")
    _write_template(folder, template)
    return ServedModel(folder.name, str(folder))


def _write_template(folder: Path, template: str | None) -> None:
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))


def test_whole_models_have_an_engine_each(tmp_path: Path) -> None:
    models = [make_model(tmp_path / name) for name in ("full", "filtered")]
    engines = engines_of(models)
    assert [engine.models for engine in engines] == [(models[0],), (models[1],)]
    assert [engine.model_id for engine in engines] == ["full", "filtered"]


def test_adapters_of_one_base_share_its_engine(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    poet = make_adapter(tmp_path / "poet", tmp_path / "base")
    cook = make_adapter(tmp_path / "cook", tmp_path / "poet/../base", rank_pattern={"q_proj": 40})
    (alone,) = engines_of([poet, cook])
    assert (alone.base, alone.adapters) == (None, (poet, cook))
    assert alone.model_id not in {"poet", "cook"}
    assert (alone.max_rank, alone.vllm_rank) == (40, 64)
    (together,) = engines_of([poet, base, cook])
    assert together.models == (base, poet, cook)


def test_one_engine_answers_with_one_chat_template(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", "plain")
    same = make_adapter(tmp_path / "same", tmp_path / "base")
    other = make_adapter(tmp_path / "other", tmp_path / "base", "another")
    first, second = engines_of([base, same, other])
    assert (first.models, first.chat_template) == ((base, same), "plain")
    assert (second.models, second.chat_template) == ((other,), "another")


def test_a_base_that_has_moved_is_named(tmp_path: Path) -> None:
    make_model(tmp_path / "base")
    poet = make_adapter(tmp_path / "poet", tmp_path / "gone")
    with pytest.raises(UserError, match=r"poet adapts .*gone.*--base-model"):
        engines_of([poet])
    (engine,) = engines_of([poet], str(tmp_path / "base"))
    assert engine.folder == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 1000}, "rank"),
        ({"r": "8"}, "rank"),
        ({"base_model_name_or_path": None}, "--base-model"),
        ({"use_dora": True}, "merge it into its base"),
        ({"modules_to_save": ["lm_head"]}, "merge it into its base"),
    ],
)
def test_adapters_that_cannot_be_served_are_told(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    make_model(tmp_path / "base")
    with pytest.raises(UserError, match=message):
        engines_of([make_adapter(tmp_path / "poet", tmp_path / "base", **config)])


def test_a_base_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(UserError, match=r"config\.json is missing"):
        engines_of([make_adapter(tmp_path / "poet", tmp_path / "base")])


def test_of_several_templates_the_default_is_the_adapters(tmp_path: Path) -> None:
    make_model(tmp_path / "base", "plain")
    poet = make_adapter(tmp_path / "poet", tmp_path / "base")
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "chat"}]
    (tmp_path / "poet" / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    (engine,) = engines_of([poet])
    assert engine.chat_template == "chat"
