"""What is said of a training that does not fit, and that the advice would help."""

from __future__ import annotations

import re
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.fitting import fit_warning
from alpagasus_ray.train.gpus import GPUS, gpu_named
from alpagasus_ray.train.memory import GIB, Memory, Pass, memory_of
from alpagasus_ray.train.model_shape import ModelShape

LLAMA_7B = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)
LLAMA_70B = ModelShape(8192, 28672, 80, 64, 8, 128, 128256, False)


def warning(shape: ModelShape, gpu: str, **settings: Any) -> str | None:
    def memory_with(changed: TrainSettings) -> Memory:
        tokens = changed.micro_batch_size * changed.max_length_tokens
        return memory_of(shape, changed, Pass(tokens, tokens // 2))

    return fit_warning(TrainSettings.model_validate(settings), gpu, gpu_named(gpu), memory_with)


def test_the_papers_7b_fits_its_own_gpus() -> None:
    assert warning(LLAMA_7B, "a100-80", workers=4) is None


def test_one_line_names_every_way_to_make_it_fit() -> None:
    told = warning(LLAMA_7B, "a100-40", workers=4)
    assert told is not None and "\n" not in told
    assert "41 GiB in training do not fit the 39.4 GiB of a100-40" in told
    for way in ("micro_batch_size=2", "activation_checkpointing=true", "--workers 8", "offload", "lora"):
        assert way in told
    assert "micro_batch_size=1 and" not in told, "half was enough"


def test_what_is_advised_fits() -> None:
    advised = [{"micro_batch_size": 2}, {"activation_checkpointing": True}, {"workers": 8}]
    for change in [*advised, {"offload": "parameters"}, {"lora": {}}]:
        assert warning(LLAMA_7B, "a100-40", **{"workers": 4, **change}) is None


def test_a_model_that_fits_in_training_but_not_while_it_is_loaded_is_told_apart() -> None:
    memory = Memory(10 * GIB, GIB, GIB, GIB, GIB, loading=90 * GIB, host=90 * GIB)
    told = fit_warning(TrainSettings(), "h100", gpu_named("h100"), lambda _: memory)
    assert told is not None and "92 GiB while the model is loaded do not fit" in told


@pytest.mark.parametrize("how", [{}, {"strategy": "deepspeed", "zero_stage": 3}])
def test_a_model_that_is_sharded_as_it_is_loaded_fits_where_its_shards_do(how: dict[str, Any]) -> None:
    assert warning(LLAMA_70B, "h100", workers=64, activation_checkpointing=True, **how) is None


def test_what_goes_to_the_hosts_is_told_for_all_workers() -> None:
    told = warning(LLAMA_7B, "a100-40", workers=4)
    assert told is not None
    assert re.search(r"train\.offload=parameters \(\d+ GiB, 100 in the hosts\)", told), told


def test_no_advice_is_given_that_a_recipe_refuses() -> None:
    told = warning(LLAMA_7B, "l4", strategy="single", workers=1)
    assert told is not None
    assert "train.offload=optimizer" not in told and "--workers 2 " not in told
    assert "nf4" in told


def test_where_nothing_helps_by_itself_it_says_so() -> None:
    told = warning(LLAMA_70B, "l4", workers=8)
    assert told is not None and "larger --gpu" in told and "\n" not in told


def test_a_gpu_that_is_not_in_the_table_is_a_slip() -> None:
    with pytest.raises(UserError, match=r'h10: .*Did you mean "h100"'):
        gpu_named("h10")


def test_the_table_is_in_its_units() -> None:
    """Dense figures, GiB below the sheets' GB, and float32 far below bfloat16."""
    for name, gpu in GPUS.items():
        assert gpu.fp32_tflops * 3 < gpu.bf16_tflops <= 2250, name
        assert 0 < gpu.usd_per_hour < 20, name
    assert GPUS["h100"].bf16_tflops == 989  # 1,979 with sparsity
    assert GPUS["a100-80"].memory_gib < 80
    assert GPUS["h100"].peak_flops(TrainSettings(precision="fp32")) == 67e12
    assert GPUS["h200"].memory_gib * GIB < 141e9 * 1.07
