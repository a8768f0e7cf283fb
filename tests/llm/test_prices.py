"""Prices: a list price holds for its own model at its own provider, and never for a dearer one."""

from __future__ import annotations

import datetime

import pytest

from alpagasus_ray.llm.prices import LIST_PRICES, PRICES_AS_OF, Price, cost_usd, price_of
from alpagasus_ray.recipe import CompareSettings, GradeSettings, PriceSettings, Recipe

OWN = PriceSettings(input_usd_per_million_tokens=0.1, output_usd_per_million_tokens=0.2)


def test_tokens_cost_what_the_price_says() -> None:
    assert Price(0.15, 0.60).cost_usd(9_225 * 200, 9_225 * 90) == pytest.approx(0.27675 + 0.49815)
    assert Price(30.0, 60.0).cost_usd(0, 0) == 0


@pytest.mark.parametrize(
    ("model", "priced_as"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0301"),
        ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k"),
    ],
)
def test_a_dated_name_has_the_price_of_its_model(model: str, priced_as: str) -> None:
    assert price_of("openai", model, {}) == LIST_PRICES["openai"][priced_as]


def test_claudes_dates_and_aliases_are_known() -> None:
    assert price_of("anthropic", "claude-3-5-sonnet-20241022", {}) == Price(3.0, 15.0)
    assert price_of("anthropic", "claude-3-5-haiku-latest", {}) == Price(0.8, 4.0)
    assert price_of("anthropic", "claude-opus-4-20250514", {}) == Price(15.0, 75.0)
    assert price_of("anthropic", "claude-opus-4-5-20251101", {}) == Price(5.0, 25.0)


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4-32k-0613",
        "gpt-5-pro",
        "gpt-4o-audio-preview",
        "gpt-4o-mini-realtime",
        "o3-pro",
        "gpt-4omni",
        "ft:gpt-4o-mini-2024-07-18:me",
        "gpt-6",
        "gpt",
        "",
        "claude-3-haiku",
    ],
)
def test_a_name_that_only_begins_like_a_known_one_has_no_price(model: str) -> None:
    assert price_of("openai", model, {}) is None


def test_a_server_of_ones_own_has_no_list_price() -> None:
    """VLLM may serve any weights under any name, for the price of its own electricity."""
    url = "http://127.0.0.1:8000/v1"
    assert price_of("openai", "gpt-4o-mini", {}, base_url=url) is None
    assert price_of("openai", "gpt-4o-mini", {"gpt-4o-mini": OWN}, base_url=url) == Price(0.1, 0.2)


def test_the_recipes_price_comes_first() -> None:
    assert price_of("openai", "gpt-4o-mini-2024-07-18", {"gpt-4o-mini": OWN}) == Price(0.1, 0.2)
    assert price_of("openai", "gpt-4o", {"gpt-4o-mini": OWN}) == Price(2.5, 10.0)


def test_the_answer_key_is_free() -> None:
    assert price_of("answer-key", "any", {}) == Price(0.0, 0.0)


def test_a_stages_cost_is_that_of_its_judge() -> None:
    recipe = Recipe(prices={"mine": OWN})
    million = 1_000_000
    assert cost_usd(recipe, GradeSettings(model="gpt-4o-mini"), million, million) == pytest.approx(0.75)
    assert cost_usd(recipe, CompareSettings(model="mine"), million, million) == pytest.approx(0.3)
    assert cost_usd(recipe, GradeSettings(model="other"), million, million) is None
    assert cost_usd(recipe, GradeSettings(judge="answer-key"), million, million) == 0


def test_the_list_is_dated_and_its_prices_are_in_the_right_unit() -> None:
    """Dollars for a million tokens, and output dearer than input, as every provider has it."""
    assert datetime.date.fromisoformat(PRICES_AS_OF)
    for prices in LIST_PRICES.values():
        for model, price in prices.items():
            inputs, outputs = price.input_usd_per_million_tokens, price.output_usd_per_million_tokens
            assert 0.01 <= inputs < outputs <= 100, model


def test_the_papers_judges_have_prices() -> None:
    assert price_of("openai", GradeSettings().model, {}) == Price(1.5, 2.0)
    assert price_of("openai", CompareSettings().model, {}) == Price(30.0, 60.0)
