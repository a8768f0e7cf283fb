"""A job's dollars: never exceeded, nearly all used, and no one dear request stops the others."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.llm.budget import AccountBudget, Call, Limits, Want
from alpagasus_ray.llm.job_dollars import CLIENT_DEAD_AFTER_S, HEARTBEAT_S, LISTEN_S, MAX_OVERTAKEN_S

WANT = Want(100, 0.01)
CHEAP, DEAR = Want(500, 0.001), Want(300_000, 2.6)
TWO = Limits(max_cost_usd=2.0)


def call(client: str = "a", count: int = 1, limits: Limits | None = None, **said: object) -> Call:
    wants = said.pop("wants", (WANT,) * count)
    return Call(client, said.pop("job", "job"), limits or Limits(), wants, **said)  # type: ignore[arg-type]


class Spender:
    """A client that pays what it reserved, or less."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.spent = self.reserved = 0.0
        self.was_dealt = self.is_done = False

    def call(self, budget: AccountBudget, wants: tuple[Want, ...], now_s: float) -> list[Want]:
        said = (self.spent, self.reserved)
        deal = budget.deal(Call(self.name, "job", self.limits, wants, *said, was_dealt=self.was_dealt), now_s)
        self.was_dealt = True
        granted = [wants[place] for place in deal.granted]
        self.reserved += sum(want.cost_usd for want in granted)
        self.is_done |= deal.left_usd < 0.001
        return granted

    def pay(self, want: Want, share: float) -> None:
        self.reserved -= want.cost_usd
        self.spent += want.cost_usd * share


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 4), st.floats(0.05, 2.0), st.sets(st.integers(1, 200), max_size=3)
)
def test_however_many_spend_and_however_often_the_budget_dies_the_dollars_are_never_exceeded(
    seed: int, num_clients: int, most: float, deaths: set[int]
) -> None:
    draw = random.Random(seed)
    limits = Limits(max_cost_usd=most)
    budget = AccountBudget(0.0)
    spenders = [Spender(str(number), limits) for number in range(num_clients)]
    for spender in spenders:
        spender.call(budget, (), 0.0)
    under_way: list[tuple[Spender, Want]] = []
    step, now_s = 0, 0.0
    while not all(spender.is_done for spender in spenders):
        step, now_s = step + 1, now_s + 0.01
        if step in deaths:
            budget = AccountBudget(now_s)
        spender = draw.choice(spenders)
        wants = tuple(Want(1, draw.choice([0.001, 0.01, 0.04])) for _ in range(draw.randint(1, 5)))
        under_way += [(spender, want) for want in spender.call(budget, wants, now_s)]
        while under_way and draw.random() < 0.6:
            payer, want = under_way.pop(draw.randrange(len(under_way)))
            payer.pay(want, draw.random())
        assert now_s <= 100, "it comes to an end"
    for payer, want in under_way:
        payer.pay(want, 1.0)
    assert sum(spender.spent for spender in spenders) <= most + 1e-9


def test_what_is_under_way_may_turn_out_cheaper_so_it_is_waited_for() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    assert budget.deal(call(limits=limits), 0.0).num_granted == 1
    waiting = budget.deal(call(limits=limits, reserved_usd=0.01), 0.1)
    assert waiting.num_granted == 0
    assert waiting.left_usd >= WANT.cost_usd, "it may fit yet"
    cheap = budget.deal(call(limits=limits, spent_usd=0.002), 0.2)
    assert cheap.num_granted == 1
    assert budget.deal(call(limits=limits, spent_usd=0.012), 0.3).left_usd < WANT.cost_usd


def test_what_a_dead_client_had_reserved_counts_as_spent() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    budget.deal(call("dead", limits=limits), 0.0)
    deal = budget.deal(call("alive", limits=limits), CLIENT_DEAD_AFTER_S + 1)
    assert deal.num_granted == 0
    assert deal.left_usd < WANT.cost_usd
    assert budget.spent_usd("job") == pytest.approx(0.01)


def test_another_jobs_dollars_are_its_own() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    budget.deal(call("a", limits=limits, job="one"), 0.0)
    assert budget.deal(call("b", limits=limits, job="two"), 0.0).num_granted == 1


def test_one_dear_request_stops_neither_those_before_it_nor_those_behind_it() -> None:
    budget = AccountBudget(0.0)
    deal = budget.deal(call(limits=TWO, wants=(CHEAP,) * 5 + (DEAR,) + (CHEAP,) * 200), 0.0)
    assert deal.granted == (*range(5), *range(6, 206))
    assert CHEAP.cost_usd <= deal.left_usd < DEAR.cost_usd, "it alone is refused, and at once"
    again = budget.deal(call(limits=TWO, wants=(DEAR, CHEAP), spent_usd=0.2), 1.0)
    assert again.granted == (1,)


def test_what_is_too_dear_for_the_moment_is_overtaken_for_a_while_only() -> None:
    """A stream of cheap requests, under way for a second each, never leaves room for one large one."""
    limits, large = Limits(max_cost_usd=2.0), Want(1, 1.999)
    budget, under_way, spent = AccountBudget(0.0), list[float](), 0.0
    overtaking, granted_s = 0, None
    for tick in range(400):
        now_s = tick * 0.1
        spent += 0.000_001 * sum(start <= now_s - 1 for start in under_way)
        under_way = [start for start in under_way if start > now_s - 1]
        said = {"spent_usd": spent, "reserved_usd": 0.001 * len(under_way), "was_dealt": tick > 0}
        if tick == 5:
            assert under_way, "from now on one waits that needs nearly all"
        wants = (CHEAP,) if tick < 5 else (large, CHEAP)
        deal = budget.deal(call("a", limits=limits, wants=wants, **said), now_s)
        if tick >= 5 and 0 in deal.granted:
            granted_s = now_s
            break
        overtaking += tick >= 5 and bool(deal.granted)
        under_way += [now_s] * len(deal.granted)
        other = budget.deal(call("b", limits=limits, wants=(Want(1, 0.0),), was_dealt=tick > 0), now_s)
        assert other.num_granted == (now_s - 0.5 < MAX_OVERTAKEN_S)
    assert overtaking >= 0.9 * MAX_OVERTAKEN_S / 0.1
    assert granted_s is not None
    assert granted_s <= 0.5 + MAX_OVERTAKEN_S + 1.5
    assert budget.deal(call("b", limits=limits, wants=(Want(1, 0.0),)), granted_s + 0.1).num_granted == 1


@pytest.mark.parametrize("gone_s", [0.0, 5.0])
def test_nobody_waits_for_one_that_gave_up_waiting(gone_s: float) -> None:
    limits, large = Limits(max_cost_usd=2.0), Want(1, 1.5)
    budget = AccountBudget(0.0)
    budget.deal(call("busy", limits=limits, wants=(Want(1, 1.0),)), 0.0)
    for tick in range(110):
        budget.deal(call("waits", limits=limits, wants=(large,)), tick * 0.1)
    busy = call("busy", limits=limits, wants=(CHEAP,), reserved_usd=1.0)
    assert budget.deal(busy, 11.0).num_granted == 0, "it has waited for long: it is its turn"
    if not gone_s:
        budget.deal(call("waits", 0, limits), 11.0)
    assert budget.deal(busy, 11.0 + gone_s).num_granted == 1


def test_who_was_silent_for_long_and_comes_back_is_counted_once() -> None:
    limits = Limits(max_cost_usd=10.0)
    budget = AccountBudget(0.0)
    for client in "ab":
        budget.deal(call(client, 0, limits, spent_usd=3.0), 0.0)
    late_s = CLIENT_DEAD_AFTER_S + 30
    budget.deal(call("a", 0, limits, spent_usd=3.0), late_s)
    assert budget.spent_usd("job") == pytest.approx(6.0)
    deal = budget.deal(call("b", 1, limits, spent_usd=3.0), late_s + 0.1)
    assert budget.spent_usd("job") == pytest.approx(6.0 + WANT.cost_usd)
    assert (deal.num_granted, deal.gone_usd) == (1, 0.0)


def test_a_budget_made_anew_grants_no_dollars_before_all_can_have_called() -> None:
    limits, born_s = Limits(max_cost_usd=100.0), 50.0
    anew = AccountBudget(born_s)
    ask = {"limits": limits, "wants": (Want(1, 0.05),) * 256, "spent_usd": 24.9, "was_dealt": True}
    for delay_s, client in ((0.0, "a"), (0.1, "b"), (1.0, "c"), (HEARTBEAT_S + 0.5, "d")):
        deal = anew.deal(call(client, **ask), born_s + delay_s)
        assert deal.num_granted == 0
        assert born_s + delay_s + deal.wait_s == pytest.approx(born_s + LISTEN_S)
    granted = sum(anew.deal(call(client, **ask), born_s + LISTEN_S).num_granted for client in "abcd")
    assert granted == 8, "0.4 of 100 dollars were left"
    assert anew.spent_usd("job") == pytest.approx(100.0)


def test_a_client_that_spent_nothing_yet_tells_of_an_earlier_budget_too() -> None:
    anew = AccountBudget(50.0)
    assert anew.deal(call(limits=TWO, was_dealt=True), 50.0).num_granted == 0
    assert anew.deal(call(limits=TWO, was_dealt=True), 50.0 + LISTEN_S).num_granted == 1


def test_nobody_waits_where_there_was_no_budget_before_or_no_dollars_are_limited() -> None:
    budget = AccountBudget(50.0)
    assert budget.deal(call("a", limits=TWO), 50.0).num_granted == 1
    assert budget.deal(call("b", limits=TWO), 50.1).num_granted == 1
    assert budget.deal(call("a", limits=TWO, reserved_usd=0.01, was_dealt=True), 50.2).num_granted == 1
    assert budget.deal(call("c", job="free", spent_usd=1.0, was_dealt=True), 50.3).num_granted == 1
    by_rate = call("d", job="rate", limits=Limits(requests_per_minute=60), was_dealt=True)
    assert budget.deal(by_rate, 50.4).num_granted == 1


def test_what_clients_that_are_gone_had_spent_outlives_the_budget() -> None:
    limits = Limits(max_cost_usd=1.0)
    budget = AccountBudget(0.0)
    budget.deal(call("gone", 0, limits, spent_usd=0.7, reserved_usd=0.2), 0.0)
    late_s = CLIENT_DEAD_AFTER_S + 1
    told = budget.deal(call("alive", 0, limits), late_s).gone_usd
    assert told == pytest.approx(0.9)
    anew = AccountBudget(late_s)
    for delay_s in (1.0, 2.0, LISTEN_S):
        deal = anew.deal(call("alive", 20, limits, gone_usd=told, was_dealt=True), late_s + delay_s)
    assert deal.num_granted in (9, 10), "0.1 of 1 dollar is left, but for rounding"
    assert anew.spent_usd("job") <= 1.0 + 1e-9
    assert deal.gone_usd == pytest.approx(0.9), "and the next one's death too"
