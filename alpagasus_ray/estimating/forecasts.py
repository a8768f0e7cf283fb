"""What a stage's calls of its judge will cost and how long they take, from calls and tokens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alpagasus_ray.console import duration
from alpagasus_ray.llm.prices import PRICES_AS_OF, price_of
from alpagasus_ray.recipe import JudgeSettings, PriceSettings

FIRST_TOKEN_S, REPLY_TOKENS_PER_S = 0.5, 50.0
"""Assumed of a judge where no limit is given; they differ by provider, model and hour."""


@dataclass(frozen=True)
class Workload:
    """What a stage will ask its judge."""

    calls: int
    calls_in_ledger: int | None
    """Calls whose reply is known: they are not sent. None where the calls themselves are not known yet."""
    prompt_tokens: float
    """Of the calls to pay for, all together."""
    max_prompt_tokens: float
    prompt_tokens_by: str
    """How they were counted, in words."""
    reply_tokens: float
    """Of one reply, as expected."""
    reply_tokens_by: str
    calls_by: str = ""
    """How many calls there are of what, in words; empty where there is nothing to say."""
    max_calls: int | None = None
    """Where there may be more calls than expected. None: there are as many as `calls`."""


_IMPORTED = "reviews are imported, nobody is asked"
NOBODY_ASKED = Workload(0, 0, 0, 0, _IMPORTED, 0, _IMPORTED)


@dataclass(frozen=True)
class Forecast:
    """Calls, tokens, dollars and time of one stage."""

    stage: str
    judge: str
    model: str
    calls: int
    calls_by: str
    max_calls: int
    calls_in_ledger: int | None
    calls_to_pay_for: int
    prompt_tokens: int
    prompt_tokens_by: str
    completion_tokens: int
    completion_tokens_by: str
    max_completion_tokens: int
    cost_usd: float | None
    """None where the price is not known."""
    max_cost_usd: float | None
    """Where every reply is as long as max_tokens lets it be, and all of `max_calls` are made."""
    price_by: str
    duration_s: float
    duration_by: str
    """What holds the work up."""

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Return names and values for a terminal."""
        known = self.calls_in_ledger
        return [
            ("calls", self._calls()),
            ("in the ledger", "not known yet" if known is None else f"{known:,}, free"),
            ("to pay for", f"{self.calls_to_pay_for:,}"),
            ("prompt tokens", f"{_rounded(self.prompt_tokens)} ({self.prompt_tokens_by})"),
            (
                "completion tokens",
                f"{_rounded(self.completion_tokens)} ({self.completion_tokens_by}), "
                f"{_rounded(self.max_completion_tokens)} at most",
            ),
            ("cost", self._cost()),
            ("time", f"{duration(self.duration_s)} ({self.duration_by})"),
        ]

    def _calls(self) -> str:
        by = f" ({self.calls_by})" if self.calls_by else ""
        at_most = f", {self.max_calls:,} at most" if self.max_calls != self.calls else ""
        return f"{self.calls:,}{by}{at_most}"

    def _cost(self) -> str:
        if self.cost_usd is None or self.max_cost_usd is None:
            return self.price_by
        return f"{cost_in_words(self.cost_usd, self.max_cost_usd)} ({self.price_by})"


def forecast(
    stage: str, settings: JudgeSettings, work: Workload, prices: Mapping[str, PriceSettings]
) -> Forecast:
    """Return the forecast of a workload under a judge's settings and the recipe's own prices."""
    known = work.calls_in_ledger or 0
    max_calls = work.calls if work.max_calls is None else work.max_calls
    sent = work.calls - known
    completion_tokens = sent * work.reply_tokens
    max_completion_tokens = (max_calls - known) * settings.max_tokens
    price = price_of(settings.judge, settings.model, prices, settings.base_url)
    seconds, held_up_by = _duration(sent, work.prompt_tokens + completion_tokens, work.reply_tokens, settings)
    return Forecast(
        stage=stage,
        judge=settings.judge,
        model=settings.model,
        calls=work.calls,
        calls_by=work.calls_by,
        max_calls=max_calls,
        calls_in_ledger=work.calls_in_ledger,
        calls_to_pay_for=sent,
        prompt_tokens=round(work.prompt_tokens),
        prompt_tokens_by=work.prompt_tokens_by,
        completion_tokens=round(completion_tokens),
        completion_tokens_by=work.reply_tokens_by,
        max_completion_tokens=max_completion_tokens,
        cost_usd=None if price is None else price.cost_usd(work.prompt_tokens, completion_tokens),
        max_cost_usd=None if price is None else price.cost_usd(work.max_prompt_tokens, max_completion_tokens),
        price_by=_price_in_words(settings, prices),
        duration_s=seconds,
        duration_by=held_up_by,
    )


def _price_in_words(settings: JudgeSettings, prices: Mapping[str, PriceSettings]) -> str:
    price = price_of(settings.judge, settings.model, prices, settings.base_url)
    if price is None:
        where = f" at {settings.base_url}" if settings.base_url else ""
        return (
            f"the price of {settings.model}{where} is not known: --set 'prices={{{settings.model}: "
            "{input_usd_per_million_tokens: X, output_usd_per_million_tokens: Y}}'"
        )
    if settings.judge == "answer-key" and not prices:
        return "the answer key is free"
    listed = price_of(settings.judge, settings.model, {}, settings.base_url)
    source = f"list price of {PRICES_AS_OF}" if price == listed else "the recipe's price"
    return (
        f"{source}: {_dollars(price.input_usd_per_million_tokens)} in, "
        f"{_dollars(price.output_usd_per_million_tokens)} out per million tokens"
    )


def _duration(calls: int, tokens: float, reply_tokens: float, settings: JudgeSettings) -> tuple[float, str]:
    """Return the seconds that the tightest limit leaves, and that limit in words."""
    latency_s = 0.0 if settings.judge == "answer-key" else FIRST_TOKEN_S + reply_tokens / REPLY_TOKENS_PER_S
    limits = [
        (
            calls * latency_s / settings.max_concurrency,
            f"{settings.max_concurrency} requests in flight, {latency_s:.1f} s each assumed",
        )
    ]
    if settings.requests_per_minute is not None:
        per_minute = settings.requests_per_minute
        limits.append((60 * calls / per_minute, f"{per_minute:,g} requests a minute"))
    if settings.tokens_per_minute is not None:
        per_minute = settings.tokens_per_minute
        limits.append((60 * tokens / per_minute, f"{per_minute:,g} tokens a minute"))
    return max(limits)


def _rounded(count: int) -> str:
    """Return a count to three digits, since no more of them are known."""
    return f"{float(f'{count:.3g}'):,.0f}"


def cost_in_words(usd: float, max_usd: float) -> str:
    """Return the dollars that are expected and those at most.

    >>> cost_in_words(0.784, 1.7)
    '$0.78, $1.70 at most'
    """
    return f"{_dollars(usd)}, {_dollars(max_usd)} at most"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 0.01 or not amount else f"${amount:.1g}"
