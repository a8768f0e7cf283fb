"""Leave to ask through long pauses and deaths: clients are heard of, and know what a new budget must know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from alpagasus_ray.llm import allowance as allowance_module
from alpagasus_ray.llm.allowance import Allowance, Usage
from alpagasus_ray.llm.budget import AccountBudget, Call, Deal, Limits, Want
from alpagasus_ray.llm.chat import RateLimits

WANT = Want(10, 0.01)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


class Shared:
    """A budget that several clients share, that may die, and to which a call takes a while."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.budget, self.calls, self._delay_s = AccountBudget(time.monotonic()), list[Call](), delay_s

    async def deal(self, call: Call) -> Deal:
        await asyncio.sleep(self._delay_s)
        self.calls.append(call)
        deal = self.budget.deal(call, time.monotonic())
        await asyncio.sleep(self._delay_s)
        return deal

    def die(self) -> None:
        self.budget = AccountBudget(time.monotonic())


@pytest.fixture
def fast_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance_module, "HEARTBEAT_S", 0.1)


def test_a_client_that_waits_out_a_long_pause_is_heard_of_all_the_while(fast_heart: None) -> None:
    shared = Shared()

    async def ask() -> list[float]:
        allowance = Allowance(shared.deal, Limits(max_cost_usd=10.0), "job")
        allowance.pause(1.0)
        started_s, heard_s = time.monotonic(), list[float]()
        waiting = asyncio.ensure_future(allowance.acquire(WANT))
        while not waiting.done():
            before = len(shared.calls)
            await asyncio.sleep(0.05)
            heard_s += [time.monotonic() - started_s] * (len(shared.calls) > before)
        await allowance.close()
        return heard_s

    heard_s = run(ask())
    assert len(heard_s) >= 4
    assert heard_s[-1] >= 0.9, "and it was a pause"


def test_an_idle_client_that_spent_dollars_tells_a_budget_made_anew(fast_heart: None) -> None:
    shared = Shared()

    async def ask() -> float:
        allowance = Allowance(shared.deal, Limits(max_cost_usd=1.0), "job")
        await allowance.acquire(WANT)
        allowance.settle(WANT, Usage(10, 0.004))
        await asyncio.sleep(0.3)
        shared.die()
        await asyncio.sleep(0.5)
        spent_usd = shared.budget.spent_usd("job")
        assert shared.calls[-1].was_dealt
        await allowance.close()
        return spent_usd

    assert run(ask()) == pytest.approx(0.004)


def test_a_reply_that_cost_less_than_reserved_is_told_though_nothing_follows_it(fast_heart: None) -> None:
    shared = Shared()

    async def ask() -> Call:
        allowance = Allowance(shared.deal, Limits(requests_per_minute=6000), "job")
        await allowance.acquire(WANT)
        await asyncio.sleep(0.3)
        assert shared.calls[-1].reserved_usd == WANT.cost_usd
        allowance.settle(WANT, Usage(10, 0.004))
        await asyncio.sleep(0.3)
        num_calls = len(shared.calls)
        await asyncio.sleep(0.3)
        assert len(shared.calls) == num_calls, "it has no more to tell"
        last = shared.calls[-1]
        await allowance.close()
        return last

    last = run(ask())
    assert (last.spent_usd, last.reserved_usd) == (0.004, 0.0)


def test_a_pause_outlives_its_client_and_its_budget_through_the_others(fast_heart: None) -> None:
    shared = Shared()

    async def ask() -> float:
        first, other = Allowance(shared.deal, Limits(), "first"), Allowance(shared.deal, Limits(), "other")
        first.pause(3.0)
        paused_s = time.monotonic()
        await asyncio.sleep(0.3)
        waiting = asyncio.ensure_future(other.acquire(WANT))
        await asyncio.sleep(0.3)
        await first.close()
        shared.die()
        await asyncio.wait_for(waiting, 30)
        await other.close()
        return time.monotonic() - paused_s

    assert 2.9 <= run(ask()) <= 10


def test_a_pause_does_not_grow_by_being_passed_on(fast_heart: None) -> None:
    shared = Shared(delay_s=0.1)

    async def ask() -> float:
        clients = [Allowance(shared.deal, Limits(), str(number)) for number in range(4)]
        clients[0].pause(2.0)
        waiting = [asyncio.ensure_future(client.acquire(WANT)) for client in clients]
        while not shared.budget.paused_until_s:
            await asyncio.sleep(0.01)
        told_s = shared.budget.paused_until_s
        await asyncio.gather(*waiting)
        grown_s = shared.budget.paused_until_s - told_s
        assert len(shared.calls) >= 8
        for client in clients:
            await client.close()
        return grown_s

    assert run(ask()) <= 1.0


def test_the_limits_that_were_learnt_are_told_again_but_not_what_was_left_of_them() -> None:
    shared = Shared()

    async def ask() -> list[RateLimits | None]:
        allowance = Allowance(shared.deal, Limits(max_cost_usd=1.0), "job")
        allowance.see(RateLimits(requests_per_minute=6000, requests_left=0, requests_reset_s=0.1))
        for _ in range(2):
            await allowance.acquire(WANT)
        await allowance.close()
        return [call.seen for call in shared.calls]

    first, *others = run(ask())
    assert first.requests_left == 0
    assert {(seen.requests_per_minute, seen.requests_left) for seen in others} == {(6000, None)}


def test_who_gives_up_at_the_very_moment_of_the_grant_holds_no_dollars() -> None:
    async def ask() -> float:
        shared = Shared()
        allowance = Allowance(shared.deal, Limits(max_cost_usd=0.015), "job")
        waiting = asyncio.ensure_future(allowance.acquire(WANT))
        while not shared.budget.spent_usd("job"):
            await asyncio.sleep(0)
        while not (waiting.done() or allowance._reserved_usd):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await allowance.acquire(WANT)
        return allowance.spent_usd

    assert run(ask()) == 0.0
