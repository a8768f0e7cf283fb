"""Trying again: what can pass, with patience; what cannot, never; and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.llm import retrying
from alpagasus_ray.llm.chat import PASSING_KINDS, EndpointError, ReplyError
from alpagasus_ray.llm.retrying import MAX_DELAY_S, MAX_FAILURES_IN_A_ROW, MAX_SILENCE_S, Breaker, Tries


@pytest.mark.parametrize("kind", ["refused request", "too long", "refused by the model"])
def test_what_cannot_pass_is_not_tried_again(kind: str) -> None:
    assert Tries(12).delay_s(ReplyError(kind, "why")) is None


@pytest.mark.parametrize("kind", sorted(PASSING_KINDS - {"rate limited"}))
@pytest.mark.parametrize("max_retries", [0, 1, 5])
def test_what_can_pass_is_tried_again_so_many_times(kind: str, max_retries: int) -> None:
    tries = Tries(max_retries)
    delays = [tries.delay_s(ReplyError(kind, "why")) for _ in range(max_retries + 3)]
    assert [delay is not None for delay in delays] == [True] * max_retries + [False] * 3


def test_a_429_costs_no_try_but_is_not_asked_for_ever() -> None:
    tries, error = Tries(2), ReplyError("rate limited", "slow down")
    assert all(tries.delay_s(error) is not None for _ in range(20))
    assert Tries(2).delay_s(ReplyError("timeout", "late")) is not None
    assert [tries.delay_s(error) is not None for _ in range(3)] == [True, True, False]


@given(st.lists(st.sampled_from(sorted(PASSING_KINDS)), max_size=30), st.floats(0, 100))
def test_delays_grow_to_a_limit_and_never_undercut_the_endpoints_wish(
    kinds: list[str], wish_s: float
) -> None:
    tries = Tries(12)
    for number, kind in enumerate(kinds):
        delay_s = tries.delay_s(ReplyError(kind, "why", retry_after_s=wish_s))
        if delay_s is not None:
            most_s = min(MAX_DELAY_S, retrying.FIRST_DELAY_S * 2**number)
            assert wish_s <= delay_s <= max(wish_s, most_s)


def test_delays_differ_so_that_not_all_come_back_at_once() -> None:
    delays = {Tries(12).delay_s(ReplyError("timeout", "late")) for _ in range(20)}
    assert len(delays) > 10


def test_an_endpoint_that_fails_everything_for_good_is_gone() -> None:
    breaker = Breaker()
    for _ in range(MAX_FAILURES_IN_A_ROW - 1):
        breaker.failed(ReplyError("timeout", "late"), for_good=True)
    with pytest.raises(EndpointError, match="late"):
        breaker.failed(ReplyError("timeout", "late"), for_good=True)
    assert breaker.broken is not None


def test_an_endpoint_that_is_silent_for_long_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("alpagasus_ray.llm.retrying.time.monotonic", lambda: now_s)
    breaker = Breaker()
    now_s += 500  # nothing was asked meanwhile: that is no silence
    for _ in range(10 * MAX_FAILURES_IN_A_ROW):
        breaker.failed(ReplyError("connection", "refused"), for_good=False)
    now_s += MAX_SILENCE_S + 1
    with pytest.raises(EndpointError, match="refused"):
        breaker.failed(ReplyError("connection", "refused"), for_good=False)


def test_one_reply_shows_that_it_is_there() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(MAX_FAILURES_IN_A_ROW - 1):
            breaker.failed(ReplyError("timeout", "late"), for_good=True)
        breaker.replied()
    assert breaker.broken is None


def test_requests_that_are_at_fault_themselves_break_nothing() -> None:
    breaker = Breaker()
    for _ in range(10 * MAX_FAILURES_IN_A_ROW):
        breaker.failed(ReplyError("too long", "why"), for_good=True)
    assert breaker.broken is None


def test_who_says_when_to_come_again_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("alpagasus_ray.llm.retrying.time.monotonic", lambda: now_s)
    breaker = Breaker()
    for _ in range(100):
        now_s += MAX_SILENCE_S
        breaker.failed(ReplyError("rate limited", "later", retry_after_s=90.0), for_good=False)
    assert breaker.broken is None
    with pytest.raises(EndpointError, match="later"):
        for _ in range(MAX_FAILURES_IN_A_ROW):
            breaker.failed(ReplyError("rate limited", "later"), for_good=True)


def test_refusals_of_all_requests_are_an_end_and_of_some_are_none() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(MAX_FAILURES_IN_A_ROW - 1):
            breaker.refused(EndpointError("no"))
        breaker.replied()
    with pytest.raises(EndpointError, match="no"):
        for _ in range(MAX_FAILURES_IN_A_ROW):
            breaker.refused(EndpointError("no"))
