"""What a worker computes on is decided before it looks: a card that torch finds may be another's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train import worker
from alpagasus_ray.train.devices import NO_GPUS, device_of, hide_gpus, wants_gpu
from alpagasus_ray.train.job import TrainJob
from tests.train.checkpoints import forget

pytestmark = pytest.mark.slow


@pytest.fixture(params=[True, False])
def has_cards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As if torch found cards, or none."""
    found: bool = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    return found


def test_who_wants_cpus_gets_no_card(has_cards: bool) -> None:
    assert not wants_gpu(TrainSettings(accelerator="cpu"))
    assert wants_gpu(TrainSettings(accelerator="auto")) == has_cards
    if has_cards:
        assert wants_gpu(TrainSettings(accelerator="gpu"))
    else:
        with pytest.raises(UserError, match="torch finds none"):
            wants_gpu(TrainSettings(accelerator="gpu"))


def test_the_device_is_what_was_decided(has_cards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of(False, "bf16") == torch.device("cpu")
    assert device_of(True, "bf16") == torch.device("cuda", 1)


def test_cards_are_hidden_from_torch_and_from_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_GPUS:
        monkeypatch.setenv(name, "0")
    hide_gpus()
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["DS_ACCELERATOR"]) == ("", "cpu")


@pytest.mark.parametrize("how", [{"accelerator": "cpu"}, {"accelerator": "auto", "use_gpu": False}])
def test_a_worker_on_cpus_leaves_the_cards_alone(
    how: dict[str, object], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`use_gpu` is Ray's decision: the cluster had no GPU for this worker, whatever its machine has."""
    given = dict(how)
    placed = {"use_gpu": given.pop("use_gpu")} if "use_gpu" in given else {}
    (tmp_path / "train.json").write_text(json.dumps(generate_rows(16, 0.5, 1)))
    settings = TrainSettings.model_validate(
        {
            "strategy": "single",
            "workers": 1,
            "epochs": 1,
            "global_batch_size": 16,
            "precision": "fp32",
            **given,
        }
    )
    devices: list[torch.device] = []

    def keep(model: object, job: TrainJob, device: torch.device) -> None:
        devices.append(device)
        raise UserError("seen")

    monkeypatch.setitem(worker.ENGINES, "single", keep)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    job = TrainJob(str(tiny_model), str(tmp_path / "train.json"), str(tmp_path), settings)
    with pytest.raises(UserError, match="seen"):
        worker.run_worker(job, None, forget, **placed)  # type: ignore[arg-type]
    assert devices == [torch.device("cpu")]
