"""GPUs by the names that people and torch have for them."""

from __future__ import annotations

import pytest

from alpagasus_ray.train.gpus import GPUS, TORCH_NAMES, gpu_of_torch_name


def test_torch_names_lead_to_the_table() -> None:
    assert {gpu_of_torch_name(name) for name in TORCH_NAMES} == set(GPUS.values())


@pytest.mark.parametrize("name", ["NVIDIA H100 PCIe", "NVIDIA H200 MIG 1g.18gb", "NVIDIA L40", "Tesla T4"])
def test_a_card_with_another_peak_is_not_taken_for_one_like_it(name: str) -> None:
    assert gpu_of_torch_name(name) is None
