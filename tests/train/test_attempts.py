"""What a training says before another one's model gives way to its own."""

from __future__ import annotations

import pytest

from alpagasus_ray.manifests import Manifest, settings_hash
from alpagasus_ray.train.attempts import what_gives_way

THERE = {"epochs": 2, "betas": [0.9, 0.99], "base_model": "abc"}


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"epochs": 3, "betas": (0.9, 0.99), "base_model": "abc"}, "with another epochs and gives way"),
        ({"epochs": 2, "betas": (0.9, 0.99), "base_model": "abc"}, "on other rows and gives way"),
        ({"epochs": 2, "betas": (0.9, 0.9), "lora": None}, "with another betas, base_model and gives way"),
    ],
)
def test_a_model_that_gives_way_is_said_with_what_has_changed(wanted: dict[str, object], told: str) -> None:
    there = Manifest("train", settings_hash(THERE), THERE, {}, "content")
    assert told in what_gives_way(there, wanted)


def test_where_no_model_is_nothing_is_said() -> None:
    assert what_gives_way(None, {"epochs": 3}) == ""
