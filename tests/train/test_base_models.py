"""What tells one base model from another, and what of its settings makes another trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.base_models import (
    NUM_SAMPLES,
    SAMPLED_BYTES,
    _sampled_places,
    check_base_model,
    fingerprint,
)


def model_folder(folder: Path, weights: bytes) -> str:
    folder.mkdir(exist_ok=True)
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(weights)
    return str(folder)


@pytest.mark.parametrize("changed_byte", [0, 1, 5000, SAMPLED_BYTES, 3 * SAMPLED_BYTES])
def test_a_changed_byte_of_a_small_file_is_seen(tmp_path: Path, changed_byte: int) -> None:
    weights = bytearray(3 * SAMPLED_BYTES + 1)
    before = fingerprint(model_folder(tmp_path / "m", bytes(weights)))
    weights[changed_byte] ^= 1
    assert fingerprint(model_folder(tmp_path / "m", bytes(weights))) != before


def test_a_merge_that_leaves_both_ends_alone_is_seen(tmp_path: Path) -> None:
    size = (NUM_SAMPLES + 60) * SAMPLED_BYTES
    before = fingerprint(model_folder(tmp_path / "m", bytes(size)))
    middle = size // 4
    merged = bytes(middle) + b"\1" * (size - 2 * middle) + bytes(middle)
    assert fingerprint(model_folder(tmp_path / "m", merged)) != before


def test_a_copy_is_the_same_model(tmp_path: Path) -> None:
    one, two = model_folder(tmp_path / "one", b"weights"), model_folder(tmp_path / "two", b"weights")
    assert fingerprint(one) == fingerprint(two)


@given(st.integers(0, 40 * NUM_SAMPLES * SAMPLED_BYTES))
def test_samples_reach_from_the_first_byte_to_the_last(size_bytes: int) -> None:
    places = list(_sampled_places(size_bytes))
    assert len(places) <= NUM_SAMPLES
    assert places == sorted(set(places))
    if size_bytes:
        assert places[0] == 0
        assert places[-1] < size_bytes <= places[-1] + SAMPLED_BYTES


def test_a_hub_id_names_itself() -> None:
    assert fingerprint("nobody/no-such-model") == "nobody/no-such-model"


@pytest.mark.parametrize("missing", ["config.json", "tokenizer_config.json"])
def test_a_folder_that_is_no_model_is_told(tmp_path: Path, missing: str) -> None:
    folder = model_folder(tmp_path / "m", b"")
    check_base_model(folder)
    (tmp_path / "m" / missing).unlink()
    with pytest.raises(UserError, match=missing):
        check_base_model(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"workers": 8},
        {"micro_batch_size": 1},
        {"activation_checkpointing": True},
        {"reshard_after_forward": False},
        {"strategy": "single", "workers": 1},
        {"checkpoint_every_steps": 7},
        {"threads_per_worker": 4},
        {"max_failures": 0},
        {"trackers": ("wandb", "mlflow")},
    ],
)
def test_how_the_work_is_dealt_out_makes_no_other_model(changed: dict[str, Any]) -> None:
    assert TrainSettings(**changed).shapes_result() == TrainSettings().shapes_result()


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 1},
        {"learning_rate": 1e-4},
        {"global_batch_size": 64},
        {"max_length_tokens": 1024},
        {"precision": "fp32"},
        {"seed": 1},
        {"warmup_ratio": 0.1},
        {"weight_decay": 0.1},
        {"max_gradient_norm": 0.3},
        {"template": "chat"},
        {"validation_share": 0.1},
    ],
)
def test_what_is_learnt_and_how_does(changed: dict[str, Any]) -> None:
    assert TrainSettings(**changed).shapes_result() != TrainSettings().shapes_result()
