"""No option of training is dead: each changes what a test observes, here or where it is named."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.recipe_training import LoraSettings
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.metrics import read_metrics
from alpagasus_ray.train.worker import run_worker
from tests.train.checkpoints import forget

STEPS, PASSES_A_STEP = 4, 2
BASE: dict[str, Any] = {
    "strategy": "single",
    "workers": 1,
    "epochs": 1,
    "learning_rate": 1e-3,
    "global_batch_size": 8,
    "max_length_tokens": 128,
    "precision": "fp32",
}
LORA: dict[str, Any] = {"rank": 8, "dropout": 0.0}
CHANGES_THE_LOSSES: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 2e-3,
    "warmup_ratio": 0.5,
    "weight_decay": 0.5,
    "max_gradient_norm": 0.1,
    "global_batch_size": 16,
    "max_length_tokens": 90,
    "precision": "bf16",
    "validation_share": 0.5,
    "seed": 1,
}
CHANGES_THE_LOSSES_OF_ADAPTERS: dict[str, Any] = {
    "rank": 4,
    "alpha": 32,
    "dropout": 0.5,
    "targets": ["q_proj"],
    "quantization": "nf4",
}
ELASTIC = "test_lost_nodes.py::test_a_training_goes_on_with_fewer_workers_and_with_more_when_they_are_back"
KILLED = "test_training.py::test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_losses"
OBSERVED_ELSEWHERE = {
    "model": "test_base_models.py::test_what_is_learnt_and_how_does",
    "strategy": "test_engines.py::test_two_workers_see_the_losses_of_one",
    "zero_stage": "test_engines.py::test_two_workers_see_the_losses_of_one",
    "offload": "test_deepspeed_config.py::test_what_is_offloaded",
    "deepspeed_config": "test_deepspeed_config.py::test_a_file_for_the_hugging_face_trainer_serves",
    "accelerator": "test_devices.py::test_a_worker_on_cpus_leaves_the_cards_alone",
    "workers": "test_training.py::test_two_workers_shard_the_model_and_export_what_transformers_loads",
    "min_workers": ELASTIC,
    "resize_every_s": ELASTIC,
    "micro_batch_size": "test_batches.py::test_no_pass_is_larger_than_the_memory_was_made_for",
    "packing": "test_batches.py::test_no_pack_is_longer_than_it_may_be",
    "template": "test_exporting.py::"
    "test_an_arm_trained_by_the_models_own_template_keeps_it_and_stops_where_it_ends",
    "lora": "test_adapters.py::test_adapters_alone_learn",
    "activation_checkpointing": "test_options.py::test_checkpointed_layers_are_worked_out_twice",
    "reshard_after_forward": "test_fsdp2.py::"
    "test_without_resharding_parameters_and_gradients_stay_whole_until_the_step",
    "threads_per_worker": "test_options.py::test_threads_are_those_of_torch",
    "trackers": "test_training.py::test_a_tracker_that_is_not_installed_is_said_before_training",
    "checkpoint_every_steps": "test_options.py::test_checkpoints_come_every_so_many_steps",
    "checkpoint_storage": KILLED,
    "keep_checkpoints": KILLED,
    "max_failures": "test_training.py::test_a_lost_worker_that_is_not_forgiven_ends_in_one_line",
    "merge": "test_adapters.py::test_merged_and_unmerged_answer_alike",
}


def test_every_option_is_observed() -> None:
    here = {*CHANGES_THE_LOSSES, *CHANGES_THE_LOSSES_OF_ADAPTERS}
    assert {*TrainSettings.model_fields, *LoraSettings.model_fields} == here | set(OBSERVED_ELSEWHERE)
    for place in OBSERVED_ELSEWHERE.values():
        file, _, name = place.partition("::")
        tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, place


Train = Callable[[dict[str, Any]], list[float]]


@pytest.fixture(scope="module")
def train(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains 4 steps with some settings, and returns the losses, validation's last."""

    def train(settings: dict[str, Any]) -> list[float]:
        folder = tmp_path_factory.mktemp("trained")
        rows = folder / "train.json"
        rows.write_text(json.dumps(generate_rows(32, 0.5, 1)))
        job = TrainJob(str(tiny_model), str(rows), str(folder), TrainSettings.model_validate(settings))
        run_worker(job, None, forget)
        lines = read_metrics(folder / "metrics.jsonl")
        return [line["loss"] for line in lines] + [lines[-1]["validation_loss"] or 0.0]

    return train


@pytest.fixture(scope="module")
def base_losses(train: Train) -> list[float]:
    return train(BASE)


@pytest.fixture(scope="module")
def adapters_losses(train: Train) -> list[float]:
    return train({**BASE, "lora": LORA})


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGES_THE_LOSSES)
def test_another_value_has_other_losses(option: str, train: Train, base_losses: list[float]) -> None:
    assert train({**BASE, option: CHANGES_THE_LOSSES[option]}) != base_losses


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGES_THE_LOSSES_OF_ADAPTERS)
def test_other_adapters_have_other_losses(option: str, train: Train, adapters_losses: list[float]) -> None:
    changed = {**LORA, option: CHANGES_THE_LOSSES_OF_ADAPTERS[option]}
    assert train({**BASE, "lora": changed}) != adapters_losses


@pytest.mark.slow
def test_what_is_compared_does_not_change_by_itself(train: Train, base_losses: list[float]) -> None:
    assert train(BASE) == base_losses


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_torch(threads: int, train: Train) -> None:
    before = torch.get_num_threads()
    try:
        train({**BASE, "threads_per_worker": threads})
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_checkpointed_layers_are_worked_out_twice(
    is_checkpointed: bool, train: Train, base_losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls, forward = [], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda *given: (calls.append(1), forward(*given))[1])
    losses = train({**BASE, "activation_checkpointing": is_checkpointed})
    layers_and_passes = 2 * STEPS * PASSES_A_STEP
    assert len(calls) == layers_and_passes * (2 if is_checkpointed else 1)
    assert losses == pytest.approx(base_losses, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("every", "expected"), [(None, [4]), (3, [3, 4]), (1, [1, 2, 3, 4])])
def test_checkpoints_come_every_so_many_steps(
    every: int | None, expected: list[int], tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.json").write_text(json.dumps(generate_rows(32, 0.5, 1)))
    settings = TrainSettings.model_validate({**BASE, "checkpoint_every_steps": every})
    saved: list[int] = []
    job = TrainJob(str(tiny_model), str(tmp_path / "train.json"), str(tmp_path), settings)
    run_worker(job, None, lambda metrics, _: saved.append(metrics.step))
    assert saved == expected, "and always at the end of an epoch" if every is None else every
