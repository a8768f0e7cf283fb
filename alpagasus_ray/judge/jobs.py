"""A judge's job: what is asked of whom, within which limits, in all the processes that take part."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from alpagasus_ray.errors import StoppedEarly, UserError
from alpagasus_ray.judge.providers import account_of
from alpagasus_ray.judge.requests import Question
from alpagasus_ray.llm.allowance import Dealer, own_dealer
from alpagasus_ray.llm.asking import NOT_ASKED, AskingLimits
from alpagasus_ray.llm.budget import Limits
from alpagasus_ray.llm.prices import Price, price_of
from alpagasus_ray.recipe import JudgeSettings, Recipe
from alpagasus_ray.storage import Storage

CPUS_PER_ACTOR = 0.25
"""An actor mostly waits for the judge."""
JUDGE_NEEDS = {"CPU": CPUS_PER_ACTOR}
"""What a cluster has to have for a judge to be asked from it."""


def as_they_are(block: pa.Table) -> pa.Table:
    """Return a block of rows that needs no reading."""
    return block


@dataclass(frozen=True)
class JudgeJob:
    """What is asked of whom; it travels to every actor."""

    settings: JudgeSettings
    rubric: Question
    reader: str
    account: str
    ledger: str
    """Where the account's replies are kept."""
    price: Price | None
    name: str
    """All processes that spend the dollars of one limit have the same."""
    spent_usd: float = 0.0
    """By the same stage of the same command before: other rubrics, other pairs, the first rows."""
    dealer: Callable[[], Dealer] = own_dealer
    """Makes the way to the account's budget."""
    stop_unreadable: bool = False
    """Stop where most of an actor's first replies cannot be read (pilot_gate.py)."""
    is_proven: bool = False
    """Other actors have had readable replies just now: there is no pilot, and a request that alone is refused
    is its row's affair."""
    again: str = ""
    """What a judge is told once whose reply cannot be read; nobody is asked again where it is empty."""
    rows_of: Callable[[pa.Table], pa.Table] = field(default=as_they_are)
    """Turns a block of what is handed in into a block of rows: places in files into what is there, say."""

    def asking_limits(self, max_concurrency: int) -> AskingLimits:
        """Return how hard one process asks."""
        return AskingLimits(max_concurrency, self.settings.max_retries, self.price)

    @property
    def limits(self) -> Limits:
        """What the recipe allows all processes together."""
        settings, most_usd = self.settings, self.settings.max_cost_usd
        left_usd = None if most_usd is None else max(0.0, most_usd - self.spent_usd)
        return Limits(settings.requests_per_minute, settings.tokens_per_minute, left_usd)


def judge_job(
    recipe: Recipe, settings: JudgeSettings, rubric: Question, reader: str, ledger: str
) -> JudgeJob:
    """Return the job of a stage; `ledger` is the folder of all accounts.

    Raises UserError where dollars are limited and the price of the model is not known.
    """
    price = price_of(settings.judge, settings.model, recipe.prices, settings.base_url)
    if settings.max_cost_usd is not None and price is None:
        wanted = "{input_usd_per_million_tokens: X, output_usd_per_million_tokens: Y}"
        raise UserError(
            f"max_cost_usd needs the price of {settings.model}: give it with --set "
            f"'prices={{{settings.model}: {wanted}}}'"
        )
    account = account_of(settings)
    folder = Storage(ledger).child_uri(account)
    return JudgeJob(settings, rubric, reader, account, folder, price, uuid.uuid4().hex)


@dataclass
class Spending:
    """What a stage of one command has spent so far, over all its rubrics or pairs."""

    usd: float = 0.0


@dataclass
class Bill:
    """What judged rows have cost, as they come in."""

    price: Price | None
    spending: Spending = field(default_factory=Spending)
    asked: int = 0
    not_asked: int = 0
    """Left out because the dollars were used up."""
    cost_usd: float = 0.0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count judged rows (see judging.JUDGED)."""
        for row in rows:
            if (row["failure"] or "").startswith(NOT_ASKED):
                self.not_asked += 1
            elif not row["from_ledger"]:
                self.asked += 1
            # A row whose second request was not asked has the tokens of its first.
            if self.price is not None and not row["from_ledger"]:
                cost_usd = self.price.cost_usd(row["prompt_tokens"], row["completion_tokens"])
                self.cost_usd += cost_usd
                self.spending.usd += cost_usd

    @property
    def cost(self) -> float | None:
        """The dollars so far; None where the price is not known."""
        return None if self.price is None else self.cost_usd

    def words(self) -> str:
        """Return the cost in words for a line of progress; empty where there is none yet."""
        return f"${self.cost_usd:,.2f}" if self.cost_usd else ""

    def raise_if_stopped(self, what: str, num_rows: int, max_cost_usd: float | None) -> None:
        """Raise StoppedEarly, with what is left to do, where the dollars did not suffice."""
        if not self.not_asked:
            return
        left = ""
        if self.asked:
            left = f" (about ${self.not_asked * self.cost_usd / self.asked:,.2f})"
        raise StoppedEarly(
            f"{what}: stopped at ${self.spending.usd:,.4f} of max_cost_usd {max_cost_usd:g}: "
            f"{num_rows - self.not_asked:,} of {num_rows:,} are answered, {self.not_asked:,} are left{left}. "
            "What is paid for is kept: run the same command again to go on"
        )
