"""Adaptive concurrency: up fast, down when the endpoint says so, and not for its ordinary faults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from alpagasus_ray.llm.concurrency import START, AdaptiveConcurrency


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def ask_many(concurrency: AdaptiveConcurrency, count: int, fails: Callable[[], bool]) -> int:
    """Ask an endpoint that takes a moment; return the most that were in flight."""
    most = 0

    async def one() -> None:
        nonlocal most
        async with concurrency.slot():
            most = max(most, concurrency.in_flight)
            await asyncio.sleep(0.002)
            if fails():
                concurrency.too_much()
            else:
                concurrency.replied()

    await asyncio.gather(*(one() for _ in range(count)))
    return most


@pytest.mark.parametrize("most", [1, 5, START, 200])
def test_it_comes_up_to_the_most_and_no_further(most: int) -> None:
    assert run(ask_many(AdaptiveConcurrency(most), 20 * most + 500, lambda: False)) == most


def test_the_start_is_fast() -> None:
    concurrency = AdaptiveConcurrency(256)
    run(ask_many(concurrency, 3 * 256, lambda: False))
    assert concurrency.limit == 256


def test_an_endpoint_that_is_too_busy_is_asked_less() -> None:
    concurrency = AdaptiveConcurrency(256)
    run(ask_many(concurrency, 1000, lambda: True))
    assert concurrency.limit <= 4


def test_at_least_one_request_is_always_in_flight() -> None:
    concurrency = AdaptiveConcurrency(8)
    run(ask_many(concurrency, 500, lambda: True))
    assert concurrency.limit == 1
    run(ask_many(concurrency, 300, lambda: False))
    assert concurrency.limit > 1


def test_ordinary_faults_leave_it_alone() -> None:
    draw = random.Random(0)
    concurrency = AdaptiveConcurrency(64)
    run(ask_many(concurrency, 3000, lambda: draw.random() < 0.05))
    assert concurrency.limit >= 60


def test_it_settles_near_what_the_endpoint_can_take() -> None:
    """An endpoint that refuses whatever is above 40 in flight."""
    concurrency = AdaptiveConcurrency(256)
    limits: list[int] = []

    def fails() -> bool:
        limits.append(concurrency.limit)
        return concurrency.in_flight > 40

    run(ask_many(concurrency, 8000, fails))
    settled = limits[4000:]
    assert 20 <= sum(settled) / len(settled) <= 80


def test_idle_slots_prove_nothing() -> None:
    concurrency = AdaptiveConcurrency(256)

    async def one_by_one() -> None:
        for _ in range(500):
            async with concurrency.slot():
                concurrency.replied()

    run(one_by_one())
    assert concurrency.limit == START


def test_first_come_first_served_and_a_cancelled_one_frees_its_place() -> None:
    async def ask() -> list[int]:
        concurrency, order = AdaptiveConcurrency(1), list[int]()

        async def one(number: int) -> None:
            async with concurrency.slot():
                order.append(number)
                await asyncio.sleep(0.005)

        tasks = [asyncio.ensure_future(one(number)) for number in range(5)]
        await asyncio.sleep(0.002)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert concurrency.in_flight == 0
        return order

    assert run(ask()) == [0, 1, 3, 4]


def test_an_endpoint_of_ones_own_gets_all_at_once() -> None:
    assert run(ask_many(AdaptiveConcurrency(200), 200, lambda: False)) < 200
    assert run(ask_many(AdaptiveConcurrency(200, start=200), 200, lambda: False)) == 200
