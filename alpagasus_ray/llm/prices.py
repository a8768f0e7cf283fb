"""What tokens cost: the providers' list prices, and the recipe's own where those do not hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from alpagasus_ray.recipe import JudgeSettings, PriceSettings, Recipe

TOKENS_PER_PRICE = 1_000_000
"""Providers state prices for a million tokens."""
PRICES_AS_OF = "2026-10-03"
"""The day that LIST_PRICES was last compared with the providers' pages."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, in US dollars for a million."""

    input_usd_per_million_tokens: float
    output_usd_per_million_tokens: float

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what so many tokens cost, in US dollars.

        >>> Price(0.15, 0.60).cost_usd(2_000_000, 1_000_000)
        0.9
        """
        inputs = prompt_tokens * self.input_usd_per_million_tokens
        outputs = completion_tokens * self.output_usd_per_million_tokens
        return (inputs + outputs) / TOKENS_PER_PRICE


FREE = Price(0.0, 0.0)

# Standard tier, without discounts for batches and cached prompts.
# https://developers.openai.com/api/docs/pricing, and for models that are gone their last price there.
_OPENAI: dict[str, Price] = {
    "gpt-3.5-turbo": Price(0.50, 1.50),
    "gpt-3.5-turbo-0301": Price(1.50, 2.00),
    "gpt-3.5-turbo-0613": Price(1.50, 2.00),
    "gpt-3.5-turbo-1106": Price(1.00, 2.00),
    "gpt-3.5-turbo-16k": Price(3.00, 4.00),
    "gpt-4": Price(30.00, 60.00),
    "gpt-4-1106-preview": Price(10.00, 30.00),
    "gpt-4-0125-preview": Price(10.00, 30.00),
    "gpt-4-turbo": Price(10.00, 30.00),
    "gpt-4-turbo-preview": Price(10.00, 30.00),
    "gpt-4o": Price(2.50, 10.00),
    "gpt-4o-2024-05-13": Price(5.00, 15.00),
    "gpt-4o-mini": Price(0.15, 0.60),
    "gpt-4.1": Price(2.00, 8.00),
    "gpt-4.1-mini": Price(0.40, 1.60),
    "gpt-4.1-nano": Price(0.10, 0.40),
    "o1": Price(15.00, 60.00),
    "o3": Price(2.00, 8.00),
    "o3-mini": Price(1.10, 4.40),
    "o4-mini": Price(1.10, 4.40),
    "gpt-5": Price(1.25, 10.00),
    "gpt-5-mini": Price(0.25, 2.00),
    "gpt-5-nano": Price(0.05, 0.40),
    "gpt-5.1": Price(1.25, 10.00),
    "gpt-5.2": Price(1.75, 14.00),
    "gpt-5.4": Price(2.50, 15.00),
    "gpt-5.4-mini": Price(0.75, 4.50),
    "gpt-5.4-nano": Price(0.20, 1.25),
    "gpt-5.6-sol": Price(4.00, 20.00),
    "gpt-5.6-terra": Price(2.00, 12.00),
    "gpt-5.6-luna": Price(0.20, 1.20),
}
# https://platform.claude.com/docs/en/about-claude/pricing, likewise.
_ANTHROPIC: dict[str, Price] = {
    "claude-3-haiku": Price(0.25, 1.25),
    "claude-3-opus": Price(15.00, 75.00),
    "claude-3-5-haiku": Price(0.80, 4.00),
    "claude-3-5-sonnet": Price(3.00, 15.00),
    "claude-3-7-sonnet": Price(3.00, 15.00),
    "claude-sonnet-4": Price(3.00, 15.00),
    "claude-sonnet-4-0": Price(3.00, 15.00),
    "claude-opus-4": Price(15.00, 75.00),
    "claude-opus-4-0": Price(15.00, 75.00),
    "claude-opus-4-1": Price(15.00, 75.00),
    "claude-haiku-4-5": Price(1.00, 5.00),
    "claude-sonnet-4-5": Price(3.00, 15.00),
    "claude-sonnet-4-6": Price(3.00, 15.00),
    "claude-opus-4-5": Price(5.00, 25.00),
    "claude-opus-4-6": Price(5.00, 25.00),
    "claude-opus-4-7": Price(5.00, 25.00),
    "claude-opus-4-8": Price(5.00, 25.00),
    "claude-sonnet-5": Price(2.00, 10.00),
    "claude-sonnet-5-5": Price(2.00, 10.00),
    "claude-opus-5": Price(5.00, 25.00),
    "claude-opus-5-5": Price(4.00, 20.00),
}
LIST_PRICES: dict[str, dict[str, Price]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC}
"""By judge and model. They hold at the providers' own endpoints only."""

_SNAPSHOT = re.compile(r"-(latest|\d{4}|\d{8}|\d{4}-\d{2}-\d{2})")
"""What may follow a model's name and leave its price as it is: the date of a snapshot, nothing else.
gpt-5-pro costs twelve times what gpt-5 does, and claude-opus-4-5 a third of claude-opus-4."""


def price_of(
    judge: str, model: str, overrides: Mapping[str, PriceSettings], base_url: str | None = None
) -> Price | None:
    """Return what a model's tokens cost, or None where that is not known.

    The recipe's own prices (`overrides`) come first. The list prices hold at the providers' own
    endpoints: a server of one's own (base_url) has no price but the recipe's. The toy world's judge is free.
    """
    given = {
        name: Price(price.input_usd_per_million_tokens, price.output_usd_per_million_tokens)
        for name, price in overrides.items()
    }
    if (own := _of_model(model, given)) is not None:
        return own
    if judge == "answer-key":
        return FREE
    return None if base_url is not None else _of_model(model, LIST_PRICES.get(judge, {}))


def cost_usd(
    recipe: Recipe, settings: JudgeSettings, prompt_tokens: float, completion_tokens: float
) -> float | None:
    """Return what so many tokens of a judge cost, in US dollars; None where its price is not known."""
    price = price_of(settings.judge, settings.model, recipe.prices, settings.base_url)
    return None if price is None else price.cost_usd(prompt_tokens, completion_tokens)


def _of_model(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return the price of the longest name that is the model's, but for the date of its snapshot."""
    names = [
        name
        for name in prices
        if model == name or (model.startswith(name) and _SNAPSHOT.fullmatch(model, len(name)))
    ]
    return prices[max(names, key=len)] if names else None
