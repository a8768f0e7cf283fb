"""Leave to ask: within the budget, with few calls to it, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from alpagasus_ray.llm.allowance import Allowance, Dealer, SpendingLimitError, Usage, own_dealer
from alpagasus_ray.llm.budget import AccountBudget, Call, Deal, Limits, Want

WANT = Want(10, 0.01)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def counting_dealer(delay_s: float = 0.0) -> tuple[Dealer, list[Call]]:
    budget, calls = AccountBudget(time.monotonic()), list[Call]()

    async def deal(call: Call) -> Deal:
        calls.append(call)
        await asyncio.sleep(delay_s)
        return budget.deal(call, time.monotonic())

    return deal, calls


def test_without_limits_many_requests_share_one_call() -> None:
    dealer, calls = counting_dealer()

    async def ask() -> None:
        allowance = Allowance(dealer, Limits(), "job")
        for _ in range(1000):
            await allowance.acquire(WANT)
            allowance.settle(WANT, Usage(5, 0.0))
        assert len(calls) <= 2
        await allowance.close()

    run(ask())


def test_all_that_wait_are_in_the_next_call() -> None:
    dealer, calls = counting_dealer(delay_s=0.05)

    async def ask() -> None:
        allowance = Allowance(dealer, Limits(max_cost_usd=100.0), "job")
        await asyncio.gather(*(allowance.acquire(WANT) for _ in range(200)))
        assert len(calls) <= 3
        await allowance.close()

    run(ask())


def test_the_rate_is_kept() -> None:
    async def ask() -> float:
        allowance = Allowance(own_dealer(), Limits(requests_per_minute=3000), "job")
        started_s = time.monotonic()
        for _ in range(50):
            await allowance.acquire(WANT)
        return time.monotonic() - started_s

    assert 0.95 <= run(ask()) <= 5


def test_who_comes_first_is_served_first() -> None:
    async def ask() -> list[int]:
        allowance = Allowance(own_dealer(), Limits(requests_per_minute=6000), "job")
        served: list[int] = []

        async def one(number: int) -> None:
            await allowance.acquire(WANT)
            served.append(number)

        await asyncio.gather(*(one(number) for number in range(30)))
        return served

    assert run(ask()) == list(range(30))


def test_dollars_that_are_used_up_end_the_waiting_of_all() -> None:
    async def ask() -> tuple[int, int]:
        allowance = Allowance(own_dealer(), Limits(max_cost_usd=0.05), "job")

        async def one() -> bool:
            try:
                await allowance.acquire(WANT)
            except SpendingLimitError:
                return False
            await asyncio.sleep(0.01)
            allowance.settle(WANT, Usage(10, 0.01))
            return True

        outcomes = await asyncio.gather(*(one() for _ in range(40)))
        assert allowance.spent_usd == pytest.approx(0.05)
        with pytest.raises(SpendingLimitError):
            await allowance.acquire(WANT)
        return outcomes.count(True), outcomes.count(False)

    assert run(ask()) == (5, 35)


def test_what_was_not_used_can_be_spent_on_others() -> None:
    async def ask() -> int:
        allowance = Allowance(own_dealer(), Limits(max_cost_usd=0.05), "job")
        count = 0
        try:
            while True:
                await allowance.acquire(WANT)
                allowance.settle(WANT, Usage(10, 0.001))
                count += 1
        except SpendingLimitError:
            return count

    assert 40 <= run(ask()) <= 50


def test_a_pause_keeps_requests_back() -> None:
    async def ask() -> float:
        allowance = Allowance(own_dealer(), Limits(), "job")
        await allowance.acquire(WANT)
        allowance.pause(0.4)
        started_s = time.monotonic()
        await asyncio.gather(*(allowance.acquire(WANT) for _ in range(5)))
        return time.monotonic() - started_s

    assert 0.35 <= run(ask()) <= 5


def test_a_pause_of_one_client_reaches_the_others() -> None:
    budget = AccountBudget(time.monotonic())

    async def deal(call: Call) -> Deal:
        return budget.deal(call, time.monotonic())

    async def ask() -> float:
        one, other = Allowance(deal, Limits(), "one"), Allowance(deal, Limits(), "other")
        started_s = time.monotonic()
        one.pause(0.5)
        await asyncio.sleep(0.05)
        await other.acquire(WANT)
        return time.monotonic() - started_s

    assert 0.45 <= run(ask()) <= 5


def test_who_gives_up_waiting_takes_nothing_with_it() -> None:
    async def ask() -> None:
        allowance = Allowance(own_dealer(), Limits(requests_per_minute=600), "job")
        waiting = [asyncio.ensure_future(allowance.acquire(WANT)) for _ in range(5)]
        await asyncio.sleep(0.01)
        waiting[2].cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in done if one] == [asyncio.CancelledError]

    run(ask())


def test_a_budget_that_cannot_be_reached_is_told_to_all_that_wait() -> None:
    async def gone(call: Call) -> Deal:
        raise ConnectionError("gone")

    async def ask() -> list[Any]:
        allowance = Allowance(gone, Limits(), "job")
        return await asyncio.gather(*(allowance.acquire(WANT) for _ in range(3)), return_exceptions=True)

    assert [str(one) for one in run(ask())] == ["gone"] * 3


def test_one_dear_request_is_refused_alone_and_later_ones_are_asked() -> None:
    dear = Want(300_000, 2.6)
    dealer, calls = counting_dealer()

    async def ask() -> list[Any]:
        allowance = Allowance(dealer, Limits(max_cost_usd=2.0), "job")

        async def one(want: Want) -> None:
            await allowance.acquire(want)
            allowance.settle(want, Usage(10, 0.001))

        wants = [WANT] * 5 + [dear] + [WANT] * 200
        outcomes = await asyncio.gather(*(one(want) for want in wants), return_exceptions=True)
        num_calls = len(calls)
        for _ in range(1000):
            with pytest.raises(SpendingLimitError):
                await allowance.acquire(dear)
        assert len(calls) == num_calls, "what is known to be refused needs no call"
        await one(WANT)
        await allowance.close()
        return outcomes

    outcomes = run(ask())
    assert [type(one) for one in outcomes if one is not None] == [SpendingLimitError]
    assert isinstance(outcomes[5], SpendingLimitError)


def test_a_client_that_rests_holds_no_dollars_back_from_the_others() -> None:
    dealer, calls = counting_dealer()
    limits = Limits(max_cost_usd=0.05)

    async def ask() -> int:
        ended = Allowance(dealer, limits, "job")
        for _ in range(3):
            await ended.acquire(WANT)
        for _ in range(3):
            ended.settle(WANT, Usage(1, 0.001))
        await ended.rest()
        told = len(calls)
        await ended.rest()
        assert len(calls) == told, "it had nothing new to say"
        # Ended without a word, as Ray Data ends its actors. What is left are 0.047 dollars.
        other = Allowance(dealer, limits, "job")
        await asyncio.wait_for(asyncio.gather(*(other.acquire(WANT) for _ in range(4))), 2)
        told = len(calls)
        await other.rest()
        assert len(calls) == told, "who has requests under way does not rest"
        return told

    assert run(ask()) < 12
