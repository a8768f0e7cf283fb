"""An account's budget: together its clients stay within the limits, and waste little of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.llm.budget import (
    BURST_S,
    CLIENT_DEAD_AFTER_S,
    AccountBudget,
    Call,
    Deal,
    Limits,
    Standing,
    Want,
)
from alpagasus_ray.llm.chat import RateLimits

WANT = Want(100, 0.01)


def call(client: str = "a", count: int = 1, limits: Limits | None = None, **said: object) -> Call:
    wants = (WANT,) * count
    return Call(client, said.pop("job", "job"), limits or Limits(), wants, **said)  # type: ignore[arg-type]


def granted_over(budget: AccountBudget, duration_s: float, calls: list[Call], every_s: float) -> list[float]:
    """Return when wants were granted to clients that always want more."""
    times: list[float] = []
    for tick in range(int(duration_s / every_s)):
        now_s = tick * every_s
        for one in calls:
            times += [now_s] * budget.deal(one, now_s).num_granted
    return times


def test_without_limits_everything_is_granted_for_a_while() -> None:
    deal = AccountBudget(0.0).deal(call(count=50), 0.0)
    assert deal.num_granted == 50
    assert deal.unlimited_s > 0


@pytest.mark.parametrize("per_minute", [3, 60, 3000, 100_000])
def test_nearly_all_of_the_allowed_requests_are_granted_and_never_more(per_minute: float) -> None:
    limits = Limits(requests_per_minute=per_minute)
    times = granted_over(AccountBudget(0.0), 120, [call(count=256, limits=limits)], 0.05)
    for start in range(0, 61, 5):
        within = sum(start <= time < start + 60 for time in times)
        assert 0.95 * per_minute - 1 <= within <= per_minute * (1 + BURST_S / 60) + 1


def test_two_jobs_on_one_account_share_its_limit_fairly() -> None:
    limits = Limits(requests_per_minute=600)
    budget, of = AccountBudget(0.0), {"a": 0, "b": 0}
    for tick in range(600):
        for client in of:
            of[client] += budget.deal(call(client, 256, limits, job=client), tick * 0.1).num_granted
    assert 0.95 * 600 <= sum(of.values()) <= 610
    assert abs(of["a"] - of["b"]) <= 0.2 * 600


def test_the_lowest_limit_of_all_jobs_holds() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call("careful", 1, Limits(requests_per_minute=60), job="other"), 0.0)
    times = granted_over(budget, 60, [call("bold", 256, Limits(requests_per_minute=6000))], 0.1)
    assert len(times) <= 62


def test_tokens_are_reserved_and_the_difference_is_given_back() -> None:
    limits = Limits(tokens_per_minute=60_000)
    without = granted_over(AccountBudget(0.0), 60, [call(count=256, limits=limits)], 0.1)
    assert 0.95 * 600 - 1 <= len(without) <= 605
    # Half of each reservation comes back: nearly twice as many can be asked.
    budget, granted = AccountBudget(0.0), 0
    last = 0
    for tick in range(600):
        last = budget.deal(call(count=256, limits=limits, returned_tokens=50 * last), tick * 0.1).num_granted
        granted += last
    assert 1100 <= granted <= 1210


def test_one_request_larger_than_the_bucket_is_asked_all_the_same() -> None:
    limits = Limits(tokens_per_minute=600)
    budget = AccountBudget(0.0)
    big = Call("a", "job", limits, (Want(5000, 0.0),))
    deals = [budget.deal(big, float(second)).num_granted for second in range(60)]
    assert sum(deals) == 1, "and then it takes its time"


def test_limits_are_learnt_from_what_responses_say() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call(seen=RateLimits(requests_per_minute=60)), 0.0)
    assert len(granted_over(budget, 60, [call(count=256)], 0.1)) <= 62


def test_the_recipes_limit_holds_where_the_provider_allows_more() -> None:
    budget = AccountBudget(0.0)
    limits = Limits(requests_per_minute=60)
    budget.deal(call(limits=limits, seen=RateLimits(requests_per_minute=6000)), 0.0)
    assert len(granted_over(budget, 60, [call(count=256, limits=limits)], 0.1)) <= 62


def test_a_pause_holds_for_everybody() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call("a", 0, pause_s=20.0), 0.0)
    deal = budget.deal(call("b"), 1.0)
    assert deal == Deal(0, wait_s=19.0)
    assert budget.deal(call("b"), 20.5).num_granted == 1


def test_nothing_left_means_a_short_pause() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call(seen=RateLimits(requests_left=0, requests_reset_s=1.0)), 0.0)
    assert budget.deal(call(), 0.5).num_granted == 0
    assert budget.deal(call(), 1.1).num_granted == 1


class Spender:
    """A client that pays what it reserved, or less."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.spent = self.reserved = 0.0
        self.is_done = False

    def call(self, budget: AccountBudget, wants: tuple[Want, ...], now_s: float) -> int:
        deal = budget.deal(Call(self.name, "job", self.limits, wants, self.spent, self.reserved), now_s)
        self.reserved += sum(want.cost_usd for want in wants[: deal.num_granted])
        self.is_done |= deal.is_spent
        return deal.num_granted

    def pay(self, want: Want, share: float) -> None:
        self.reserved -= want.cost_usd
        self.spent += want.cost_usd * share


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(0.05, 2.0))
def test_however_many_spend_the_dollars_are_never_exceeded(seed: int, num_clients: int, most: float) -> None:
    draw = random.Random(seed)
    limits = Limits(max_cost_usd=most)
    budget = AccountBudget(0.0)
    spenders = [Spender(str(number), limits) for number in range(num_clients)]
    under_way: list[tuple[Spender, Want]] = []
    now_s = 0.0
    while not all(spender.is_done for spender in spenders):
        now_s += 0.01
        spender = draw.choice(spenders)
        wants = tuple(Want(1, draw.choice([0.001, 0.01, 0.04])) for _ in range(draw.randint(1, 5)))
        under_way += [(spender, want) for want in wants[: spender.call(budget, wants, now_s)]]
        while under_way and draw.random() < 0.6:
            payer, want = under_way.pop(draw.randrange(len(under_way)))
            payer.pay(want, draw.random())
        if now_s > 100:
            break
    for payer, want in under_way:
        payer.pay(want, 1.0)
    assert sum(spender.spent for spender in spenders) <= most + 1e-9
    assert now_s <= 100, "it comes to an end"


def test_what_is_under_way_may_turn_out_cheaper_so_it_is_waited_for() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    assert budget.deal(call(limits=limits), 0.0).num_granted == 1
    waiting = budget.deal(call(limits=limits, reserved_usd=0.01), 0.1)
    assert (waiting.num_granted, waiting.is_spent) == (0, False)
    cheap = budget.deal(call(limits=limits, spent_usd=0.002), 0.2)
    assert cheap.num_granted == 1
    assert budget.deal(call(limits=limits, spent_usd=0.012), 0.3).is_spent


def test_what_a_dead_client_had_reserved_counts_as_spent() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    budget.deal(call("dead", limits=limits), 0.0)
    deal = budget.deal(call("alive", limits=limits), CLIENT_DEAD_AFTER_S + 1)
    assert (deal.num_granted, deal.is_spent) == (0, True)
    assert budget.spent_usd("job") == pytest.approx(0.01)


def test_another_jobs_dollars_are_its_own() -> None:
    limits = Limits(max_cost_usd=0.015)
    budget = AccountBudget(0.0)
    budget.deal(call("a", limits=limits, job="one"), 0.0)
    assert budget.deal(call("b", limits=limits, job="two"), 0.0).num_granted == 1


def test_a_budget_that_died_is_made_anew_from_what_the_clients_say() -> None:
    limits = Limits(max_cost_usd=0.1)
    anew = AccountBudget(50.0)
    anew.deal(call("a", 0, limits, spent_usd=0.05, reserved_usd=0.03), 50.0)
    deal = anew.deal(call("b", 5, limits, spent_usd=0.005), 50.1)
    assert deal.num_granted == 1, "0.015 of 0.1 dollars are left"


def test_the_budget_can_say_what_keeps_its_clients_waiting() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call("a", pause_s=20.0, num_retrying=3), 0.0)
    budget.deal(call("b", num_retrying=2), 1.0)
    assert budget.standing(5.0) == Standing(paused_s=15.0, num_retrying=5)
    budget.deal(call("a", 0), 21.0)
    assert budget.standing(21.0) == Standing(paused_s=0.0, num_retrying=2)
