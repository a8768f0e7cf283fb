"""The learning rate: up in a line, down in half a cosine, as in the original training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.train.schedule import cosine_with_warmup, num_warmup_steps

PEAK = 2e-5


def test_the_rate_of_a_short_training() -> None:
    rates = [cosine_with_warmup(step, 10, 2, 1.0) for step in range(11)]
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 300), st.floats(0, 0.5))
def test_the_rate_rises_to_the_peak_and_falls(num_steps: int, ratio: float) -> None:
    warmup = num_warmup_steps(num_steps, ratio)
    rates = [cosine_with_warmup(step, num_steps, warmup, PEAK) for step in range(num_steps)]
    assert all(0 <= rate <= PEAK * (1 + 1e-9) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert warmup == num_steps or max(rates) == pytest.approx(PEAK)


def test_after_the_end_nothing_is_learnt() -> None:
    assert cosine_with_warmup(99, 10, 2, PEAK) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("num_steps", "ratio", "warmup"),
    [(219, 0.03, 7), (100, 0.03, 3), (1, 0.03, 1), (10, 0.0, 0), (0, 0.03, 0)],
)
def test_the_warm_up_is_rounded_up(num_steps: int, ratio: float, warmup: int) -> None:
    assert num_warmup_steps(num_steps, ratio) == warmup == math.ceil(num_steps * ratio)


@pytest.mark.slow
@pytest.mark.parametrize(("num_steps", "warmup"), [(219, 7), (10, 0), (1, 0), (5, 5), (2000, 60)])
def test_the_rates_are_those_of_transformers(num_steps: int, warmup: int) -> None:
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, num_steps)
    for step in range(num_steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(
            cosine_with_warmup(step, num_steps, warmup, PEAK), rel=1e-9, abs=1e-20
        )
        optimizer.step()
        schedule.step()
