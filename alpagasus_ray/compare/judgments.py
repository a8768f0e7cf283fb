"""The judge's part of a comparison: what is asked, what is asked once more, and when it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from alpagasus_ray.compare.asking import pair_judge
from alpagasus_ray.compare.pairing import Key, Pairing, key_of, verdict_of
from alpagasus_ray.compare.sequential import SequentialSignTest
from alpagasus_ray.console import Console
from alpagasus_ray.judge.jobs import Bill, Spending
from alpagasus_ray.judge.rows_judge import RowsJudge
from alpagasus_ray.llm.asking import NOT_ASKED, failure_kind
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import CompareSettings, Recipe
from alpagasus_ray.recipe_comparing import Pair


@dataclass(frozen=True)
class Collected:
    """All judgments of a comparison."""

    pairing: Pairing
    """What was judged: where it was stopped early, without the prompts after that."""
    rows: list[dict[str, Any]]
    """Judged rows (see judging.JUDGED), with testset, prompt_id and order."""
    escalated: dict[Key, list[dict[str, Any]]] = field(default_factory=dict)
    """The stronger judge's two rows on each prompt that it was asked about."""
    num_left_out: int = 0
    """Prompts that an early stop left out."""
    early_stop: dict[str, Any] = field(default_factory=dict)
    """Where a comparison might stop early: level, e_value, p_value, prompts_left_out."""
    details: dict[str, Any] = field(default_factory=dict)
    """For the manifest: where the judgments come from."""


class Source(Protocol):
    """Where the judgments of a comparison come from."""

    @property
    def cost_usd(self) -> float | None:
        """What was spent; None where the price is not known."""

    @property
    def num_asked(self) -> int:
        """How many judgments were paid for now."""

    def check(self) -> None:
        """Raise UserError where no judgments can be had, while old verdicts are still there."""

    def collect(self, what: str, session: RaySession, console: Console) -> Collected:
        """Return the judgments; raises StoppedEarly where the dollars did not suffice for them."""


@dataclass
class Judged:
    """What a judge said of one pair of models, when he was asked about several."""

    bill: Bill
    rows: list[dict[str, Any]] = field(default_factory=list)


def judge_together(
    recipe: Recipe,
    pairings: Mapping[Pair, Pairing],
    ledger: str,
    session: RaySession,
    console: Console,
    spending: Spending,
) -> dict[Pair, Judged]:
    """Return the recipe's judge's answers on several pairs of models, who is asked about all of them at once.

    Raises UserError and StoppedEarly as RowsJudge does.
    """
    pairs, settings = list(pairings), recipe.compare
    rows = [{"pair": place, **row} for place, pair in enumerate(pairs) for row in pairings[pair].rows]
    if settings.escalate is not None:
        # Its key and its name are looked at before the weaker one is paid for.
        stronger = settings.model_copy(update={"model": settings.escalate})
        pair_judge(recipe, stronger, ledger, spending).ask_first(rows)
    judge = pair_judge(recipe, settings, ledger, spending)
    judge.ask_first(rows)
    judged = {pair: Judged(Bill(judge.bill.price)) for pair in pairs}
    for chunk in judge.judged(rows, f"compare {len(pairs)} pairs", session, console):
        for row in chunk:
            of_pair = judged[pairs[row.pop("pair")]]
            of_pair.rows.append(row)
            of_pair.bill.add([row])
    return judged


class AskedJudge:
    """Judgments that a judge is asked for, and where it is wanted a stronger one."""

    def __init__(
        self,
        recipe: Recipe,
        pairing: Pairing,
        ledger: str,
        spending: Spending,
        judged: Judged | None = None,
    ) -> None:
        """`judged`: what the judge has said before; the stronger one is asked all the same."""
        self._recipe, self._settings, self._pairing, self._ledger = recipe, recipe.compare, pairing, ledger
        self._spending, self._judged = spending, judged
        self._judges: list[RowsJudge] = []

    @property
    def cost_usd(self) -> float | None:
        """What was spent; None where the price of a judge is not known."""
        costs = [bill.cost for bill in self._bills()]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def num_asked(self) -> int:
        """How many judgments were paid for now."""
        return sum(bill.asked for bill in self._bills())

    def _bills(self) -> list[Bill]:
        before = [] if self._judged is None else [self._judged.bill]
        return before + [judge.bill for judge in self._judges]

    def check(self) -> None:
        """Raise UserError where a judge cannot be asked."""
        models = [None if self._judged else self._settings.model, self._settings.escalate]
        for model in filter(None, models):
            settings = self._settings.model_copy(update={"model": model})
            self._judges.append(pair_judge(self._recipe, settings, self._ledger, self._spending))
            self._judges[-1].ask_first(self._pairing.rows)

    def collect(self, what: str, session: RaySession, console: Console) -> Collected:
        """Return the judgments.

        Raises StoppedEarly where the dollars did not suffice, and UserError for a judge most of whose replies
        cannot be read.
        """
        level, seed = self._settings.early_stop, self._settings.seed
        pairing = self._pairing if level is None else self._pairing.drawn(seed)
        judged, stop = [], EarlyStop(pairing, self._settings)
        chunks = (
            [self._judged.rows]
            if self._judged is not None
            else self._judges[0].judged(
                pairing.rows, what, session, console, enough=None if level is None else stop.is_clear
            )
        )
        for chunk in chunks:
            judged += chunk
            if level is not None:
                stop.take(chunk)
        kept = pairing if stop.num_prompts is None else pairing.first(stop.num_prompts)
        wanted = {key_of(row) for row in kept.rows}
        judged = [row for row in judged if key_of(row) in wanted]
        num_left_out = len(pairing.categories) - len(kept.categories)
        escalated: dict[Key, list[dict[str, Any]]] = {}
        if self._settings.escalate is not None:
            flipped = kept.flipped(judged, self._settings.rule)
            rows = [row for row in kept.rows if key_of(row) in flipped]
            words = f"{what}, flips to {self._settings.escalate}"
            for chunk in self._judges[-1].judged(rows, words, session, console):
                for row in chunk:
                    escalated.setdefault(key_of(row), []).append(row)
        said = {} if level is None else {**stop.evidence(), "prompts_left_out": num_left_out}
        return Collected(kept, judged, escalated, num_left_out, said)


class EarlyStop:
    """Whether the prompts judged so far tell enough.

    They are looked at one by one in the order in which they were drawn, whatever order their judgments came
    in: slow judgments are those on long answers, and a look that skipped them would not be a fair one.
    """

    def __init__(self, pairing: Pairing, settings: CompareSettings) -> None:
        self._pairing, self._settings = pairing, settings
        self._keys = list(pairing.categories)
        self._judged: dict[Key, list[dict[str, Any]]] = {}
        self._test = SequentialSignTest()
        self._looked_at = 0
        self.num_prompts: int | None = None
        """How many prompts were enough; None while they are not."""

    def is_clear(self) -> bool:
        """Return whether the models are told apart."""
        return self.num_prompts is not None

    def take(self, chunk: Iterable[dict[str, Any]]) -> None:
        """Take in judged rows, and look at the prompts that are whole now, as far as it takes."""
        for row in chunk:
            self._judged.setdefault(key_of(row), []).append(row)
        for key in self._keys[self._looked_at :]:
            if self.is_clear() or not self._is_judged(key):
                return
            verdict, _ = verdict_of(self._pairing, key, self._judged.get(key, ()), self._settings.rule)
            self._test.add(verdict)
            self._looked_at += 1
            assert self._settings.early_stop is not None
            if self._test.decided(self._settings.early_stop):
                self.num_prompts = self._looked_at

    def evidence(self) -> dict[str, Any]:
        """Return what the test says of the prompts that were looked at."""
        test = self._test
        return {"level": self._settings.early_stop, "e_value": test.e_value, "p_value": test.p_value}

    def _is_judged(self, key: Key) -> bool:
        """A prompt that was left out for want of dollars is not: what comes after it tells nothing yet."""
        rows = self._judged.get(key, ())
        not_asked = any(failure_kind(row["failure"] or "") == NOT_ASKED for row in rows)
        return key in self._pairing.unpaired or (len(rows) == 2 and not not_asked)
