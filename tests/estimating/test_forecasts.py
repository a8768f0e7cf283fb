"""Forecasts: the arithmetic of calls, tokens, dollars and limits, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from alpagasus_ray.estimating.forecasts import Forecast, Workload, forecast
from alpagasus_ray.recipe import GradeSettings, PriceSettings


def workload(calls: int = 1_000, known: int | None = 0, prompt_tokens: float = 200_000) -> Workload:
    return Workload(calls, known, prompt_tokens, prompt_tokens, "counted", 90, "90 a reply assumed")


def of(work: Workload, **settings: Any) -> Forecast:
    return forecast("grade", GradeSettings(**{"model": "gpt-4o-mini", **settings}), work, {})


def text(of_stage: Forecast) -> str:
    return "\n".join(f"{name}: {value}" for name, value in of_stage.lines())


def test_only_unknown_replies_are_paid_for() -> None:
    made = of(workload(calls=1_000, known=400, prompt_tokens=120_000))
    assert (made.calls_to_pay_for, made.completion_tokens, made.max_completion_tokens) == (
        600,
        54_000,
        153_600,
    )
    assert made.cost_usd == pytest.approx(0.12 * 0.15 + 0.054 * 0.60)
    assert made.max_cost_usd == pytest.approx(0.12 * 0.15 + 0.1536 * 0.60)
    assert "in the ledger: 400, free" in text(made)


def test_what_is_all_known_costs_nothing_and_takes_no_time() -> None:
    made = of(workload(known=1_000, prompt_tokens=0), requests_per_minute=1)
    assert (made.cost_usd, made.max_cost_usd, made.duration_s) == (0, 0, 0)


@pytest.mark.parametrize(
    ("limits", "seconds", "by"),
    [
        ({"requests_per_minute": 50}, 1_200, "50 requests a minute"),
        ({"tokens_per_minute": 29_000}, 600, "29,000 tokens a minute"),
        ({"requests_per_minute": 50, "tokens_per_minute": 29_000}, 1_200, "50 requests a minute"),
        ({"requests_per_minute": 500, "tokens_per_minute": 29_000}, 600, "29,000 tokens a minute"),
        ({"max_concurrency": 10}, 230, "10 requests in flight, 2.3 s each assumed"),
        ({"max_concurrency": 10, "requests_per_minute": 5_000}, 230, "10 requests in flight"),
    ],
)
def test_the_tightest_limit_makes_the_time(limits: dict[str, float], seconds: float, by: str) -> None:
    made = of(workload(), **limits)
    assert made.duration_s == pytest.approx(seconds)
    assert by in made.duration_by


def test_a_price_that_is_not_known_is_asked_for() -> None:
    made = of(workload(), model="my-model", base_url="http://127.0.0.1:8000/v1")
    assert (made.cost_usd, made.max_cost_usd) == (None, None)
    assert "cost: the price of my-model at http://127.0.0.1:8000/v1 is not known" in text(made)
    assert "--set 'prices={my-model: {input_usd_per_million_tokens: X, output_" in text(made)


def test_a_price_is_told_with_its_source() -> None:
    assert "(list price of 20" in text(of(workload()))
    assert "$0.15 in, $0.60 out per million tokens" in text(of(workload()))
    prices = {"mine": PriceSettings(input_usd_per_million_tokens=1, output_usd_per_million_tokens=0.005)}
    own = forecast("grade", GradeSettings(model="mine"), workload(), prices)
    assert "the recipe's price: $1.00 in, $0.005 out per million tokens" in text(own)
    free = of(workload(), judge="answer-key")
    assert "cost: $0.00, $0.00 at most (the answer key is free)" in text(free)


def test_calls_that_are_not_known_yet_are_not_told_as_none() -> None:
    assert "in the ledger: not known yet" in text(of(workload(known=None)))
    assert of(workload(known=None)).calls_to_pay_for == 1_000
