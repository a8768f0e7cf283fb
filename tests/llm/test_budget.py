"""An account's budget: together its clients stay within the limits, and waste little of them."""

from __future__ import annotations

import gc
import sys

import pytest

from alpagasus_ray.llm.buckets import BURST_S
from alpagasus_ray.llm.budget import MAX_PAUSE_S, AccountBudget, Activity, Call, Limits, Standing, Want
from alpagasus_ray.llm.chat import RateLimits
from alpagasus_ray.llm.job_dollars import CLIENT_DEAD_AFTER_S

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


def test_a_limit_holds_while_its_client_is_there_and_as_it_was_said_last() -> None:
    budget, bold = AccountBudget(0.0), call("bold", 256, Limits(requests_per_minute=600_000))
    budget.deal(call("careful", 0, Limits(requests_per_minute=60)), 0.0)
    assert budget.deal(bold, 1.0).num_granted <= 1 + BURST_S
    budget.deal(call("careful", 0, Limits(requests_per_minute=120_000)), 2.0)
    assert budget.deal(bold, 4.0).num_granted == 256
    budget.deal(call("careful", 0, Limits(requests_per_minute=60)), 5.0)
    granted = sum(budget.deal(bold, 5.0 + second).num_granted for second in range(1, 30))
    assert granted < 2 * 30
    for second in range(30, int(CLIENT_DEAD_AFTER_S) + 10):
        last = budget.deal(bold, 5.0 + second)
    assert last.num_granted == 256, "a client that is gone limits nobody"


def test_a_call_costs_no_more_where_many_clients_are_known() -> None:
    def steps(known: int) -> int:
        budget, counted = AccountBudget(0.0), 0
        for number in range(known):
            budget.deal(call(f"client-{number}", 0), 0.1)

        def count(frame: object, event: str, arg: object) -> None:
            nonlocal counted
            counted += 1

        gc.disable()  # What other tests left behind is torn down at any time, and would count as steps.
        sys.setprofile(count)
        try:
            budget.deal(call("client-0"), 0.2)
        finally:
            sys.setprofile(None)
            gc.enable()
        return counted

    assert steps(1000) <= steps(10) + 5


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
    assert (deal.num_granted, deal.wait_s, deal.paused_s) == (0, 19.0, 19.0)
    assert budget.deal(call("b"), 20.5).num_granted == 1


def test_nothing_left_means_a_short_pause() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call(seen=RateLimits(requests_left=0, requests_reset_s=1.0)), 0.0)
    assert budget.deal(call(), 0.5).num_granted == 0
    assert budget.deal(call(), 1.1).num_granted == 1


def test_the_budget_can_say_what_keeps_its_clients_waiting() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call("a", pause_s=20.0, num_retrying=3), 0.0)
    budget.deal(call("b", num_retrying=2), 1.0)
    assert budget.standing(5.0) == Standing(paused_s=15.0, num_retrying=5)
    budget.deal(call("a", 0), 21.0)
    assert budget.standing(21.0) == Standing(paused_s=0.0, num_retrying=2)


def test_the_budget_can_say_what_each_jobs_clients_are_doing() -> None:
    budget = AccountBudget(0.0)
    budget.deal(call("a", num_retrying=3, num_in_flight=5, num_rate_limited=4), 0.0)
    budget.deal(call("b", num_in_flight=2, num_rate_limited=1), 1.0)
    budget.deal(call("c", job="other", num_in_flight=7, num_rate_limited=9), 2.0)
    assert budget.activity("job") == Activity(num_in_flight=7, num_retrying=3, num_rate_limited=5)
    # A client that is gone has nothing in flight; that it was turned away stays true.
    budget.deal(call("b", num_in_flight=1, num_rate_limited=2), CLIENT_DEAD_AFTER_S + 0.5)
    assert budget.activity("job") == Activity(num_in_flight=1, num_retrying=0, num_rate_limited=6)
    assert budget.activity("unknown") == Activity()


@pytest.mark.parametrize("tokens", [1, 100])
@pytest.mark.parametrize("died_s", [0.05, 30.0])
def test_a_budget_made_anew_goes_above_the_rates_by_one_burst_at_most(tokens: int, died_s: float) -> None:
    per_minute = 60_000.0
    limits = Limits(requests_per_minute=per_minute / tokens, tokens_per_minute=per_minute)
    budget, granted = AccountBudget(0.0), 0
    for tick in range(1200):
        now_s = tick * 0.05
        if now_s == pytest.approx(died_s):
            budget = AccountBudget(now_s)
        deal = budget.deal(Call("a", "job", limits, (Want(tokens, 0.0),) * 256, was_dealt=tick > 0), now_s)
        granted += tokens * deal.num_granted
    assert 0.95 * per_minute <= granted <= per_minute + 2 * per_minute / 60 * BURST_S + tokens


def test_the_limits_that_were_learnt_and_a_pause_are_told_to_a_budget_made_anew() -> None:
    anew = AccountBudget(50.0)
    anew.deal(call("a", 0, seen=RateLimits(requests_per_minute=60), pause_s=20.0, was_dealt=True), 50.0)
    assert anew.standing(50.0).paused_s == 20.0
    assert anew.deal(call("b", 256), 69.0).num_granted == 0
    assert 1 <= anew.deal(call("b", 256), 70.5).num_granted <= 2


def test_a_pause_that_is_told_again_and_again_is_the_same_pause() -> None:
    budget = AccountBudget(0.0)
    for tick in range(100):
        budget.deal(call("a", 0, pause_s=20.0 - tick * 0.1), tick * 0.1)
    assert budget.paused_until_s == pytest.approx(20.0)
    budget.deal(call("b", 0, pause_s=1e6), 10.0)
    assert budget.paused_until_s == pytest.approx(10.0 + MAX_PAUSE_S)


def test_who_waits_for_dollars_only_needs_no_share_of_the_requests_kept() -> None:
    rate = Limits(requests_per_minute=6000)
    budget, granted = AccountBudget(0.0), 0
    budget.deal(Call("waits", "poor", Limits(max_cost_usd=1.0), (Want(1, 0.9),)), 0.0)
    poor = Call("waits", "poor", Limits(max_cost_usd=1.0), (Want(1, 0.5),), reserved_usd=0.9)
    for tick in range(1, 101):
        now_s = tick * BURST_S
        assert budget.deal(poor, now_s).num_granted == 0
        granted += budget.deal(call("busy", 256, rate, job="rich"), now_s).num_granted
    assert granted >= 0.95 * 100 * 100 * BURST_S
