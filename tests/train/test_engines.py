"""Every engine trains the same model: one process, FSDP2, ZeRO 1 to 3, packed or not, accumulated or not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.engines.deepspeed import SHARDING_FILE, DeepSpeedEngine
from tests.train.curves import STEPS, curve

pytestmark = pytest.mark.slow
LORA = {"rank": 8, "dropout": 0.0}
IN_4_BITS = {**LORA, "quantization": "nf4"}
TWO_WORKERS: list[dict[str, Any]] = [
    {"strategy": "fsdp", "micro_batch_size": 4, "packing": False, "reshard_after_forward": True},
    {"strategy": "fsdp", "micro_batch_size": 1, "packing": False, "reshard_after_forward": True},
    {"strategy": "fsdp", "micro_batch_size": 1, "packing": True, "activation_checkpointing": True},
    {"strategy": "deepspeed", "zero_stage": 1, "micro_batch_size": 4},
    {"strategy": "deepspeed", "zero_stage": 2, "micro_batch_size": 1},
    {"strategy": "deepspeed", "zero_stage": 3, "micro_batch_size": 2, "packing": True},
    {"strategy": "fsdp", "lora": LORA},
    {"strategy": "deepspeed", "zero_stage": 2, "lora": LORA},
    {"strategy": "deepspeed", "zero_stage": 3, "lora": LORA},
    {"strategy": "fsdp", "lora": IN_4_BITS},
    {"strategy": "deepspeed", "own": {"zero_optimization": {"stage": 3}}},
]
WITH_DROPOUT: list[dict[str, Any]] = [{"strategy": "fsdp", "lora": {"rank": 8, "dropout": 0.1}}]


@pytest.fixture(scope="module")
def alone(tiny_model: Path) -> dict[str, dict[str, Any]]:
    """What one process sees, without adapters and with them, in 4 bits too."""
    how = {"strategy": "single", "workers": 1, "micro_batch_size": 8}
    return {json.dumps(lora): curve(str(tiny_model), lora=lora, **how) for lora in (None, LORA, IN_4_BITS)}


@pytest.fixture(scope="module")
def together(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two workers see, by what they were told."""
    out = tmp_path_factory.mktemp("curves") / "curves.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [
        "-m",
        "tests.train.curves",
        str(tiny_model),
        str(out),
        *map(json.dumps, TWO_WORKERS + WITH_DROPOUT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("how", TWO_WORKERS, ids=json.dumps)
def test_two_workers_see_the_losses_of_one(
    alone: dict[str, dict[str, Any]], together: dict[str, Any], how: dict[str, Any]
) -> None:
    seen, expected = together[json.dumps(how)], alone[json.dumps(how.get("lora"))]
    assert len(seen["losses"]) == STEPS and expected["losses"][-1] < expected["losses"][0] - 0.05
    assert seen["losses"] == pytest.approx(expected["losses"], abs=1e-4)
    assert len(expected["validation"]) == 2, "in the middle and at the end"
    assert seen["validation"] == pytest.approx(expected["validation"], abs=1e-4)
    assert seen["tensors"] == expected["tensors"], "what is exported has the names of the model's own"
    assert seen["sum"] == pytest.approx(expected["sum"], rel=1e-4)


@pytest.mark.parametrize("how", TWO_WORKERS + WITH_DROPOUT, ids=json.dumps)
def test_who_goes_on_from_a_checkpoint_sees_the_same_losses_to_the_bit(
    together: dict[str, Any], how: dict[str, Any]
) -> None:
    name = json.dumps(how)
    assert together[f"{name} resumed"]["losses"] == together[name]["losses"][STEPS // 2 :]
    assert together[f"{name} resumed"]["validation"] == together[name]["validation"][1:]
    assert together[f"{name} resumed"]["sum"] == together[name]["sum"]


@pytest.mark.parametrize("how", [how for how in TWO_WORKERS if how.get("lora") == LORA], ids=json.dumps)
def test_a_checkpoint_of_adapters_leaves_the_frozen_base_out(
    together: dict[str, Any], tiny_model: Path, how: dict[str, Any]
) -> None:
    """Adapters of rank 8 and their moments are smaller than this model; a base inside would not be."""
    assert 0 < together[json.dumps(how)]["stored"] < base_bytes(tiny_model)


@pytest.mark.parametrize("lora", [LORA, IN_4_BITS], ids=json.dumps)
def test_one_process_goes_on_from_adapters_alone_to_the_same_losses(
    alone: dict[str, dict[str, Any]], tiny_model: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    how = {"strategy": "single", "workers": 1, "micro_batch_size": 8, "lora": lora}
    first, second = (curve(str(tiny_model), tmp_path / "checkpoint", **how) for _ in range(2))
    assert first["losses"] == alone[json.dumps(lora)]["losses"]
    assert second["losses"] == first["losses"][STEPS // 2 :] and second["sum"] == first["sum"]
    assert 0 < first["stored"] < base_bytes(tiny_model)


def base_bytes(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def test_deepspeed_says_whose_checkpoint_it_cannot_take(tmp_path: Path) -> None:
    engine = object.__new__(DeepSpeedEngine)
    engine.world_size, engine._stage = 2, 3
    (tmp_path / SHARDING_FILE).write_text(json.dumps({"workers": 4, "stage": 3}))
    with pytest.raises(UserError, match=r"of 4 workers under ZeRO 3.*strategy fsdp"):
        engine.load(tmp_path)
