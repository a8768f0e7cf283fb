"""Asking: each request is paid for once, and no failure hides."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.llm.asking import Asked, Asker, AskingLimits, failure_kind
from alpagasus_ray.llm.chat import (
    PASSING_KINDS,
    EndpointError,
    Message,
    RateLimits,
    Reply,
    ReplyError,
    Request,
    Sampling,
    ignore_limits,
)
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.retrying import MAX_FAILURES_IN_A_ROW


def request(text: str = "a") -> Request:
    return Request((Message("user", text),), "model", Sampling(10))


def said(one: Request) -> str:
    return one.messages[0].content


@dataclass
class Model:
    """Repeats what it is asked; fails, waits and counts as a test wants."""

    act: Callable[[str], Awaitable[None]] | None = None
    asked: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    is_closed: bool = False
    on_limits: Callable[[RateLimits], None] = ignore_limits

    async def complete(self, request: Request) -> Reply:
        text = said(request)
        self.asked[text] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self.act is not None:
                await self.act(text)
        finally:
            self.in_flight -= 1
        return Reply(f"reply to {text}", "stop", 1, 2)

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def fail_with(error: Exception) -> Callable[[str], Awaitable[None]]:
    async def act(text: str) -> None:
        raise error

    return act


def test_a_reply_is_asked_for_once_and_then_comes_from_the_ledger(folder: Path) -> None:
    model = Model()

    async def ask() -> Asked:
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        asked = await asker.ask(request())
        await asker.close()
        return asked

    first, second = run(ask()), run(ask())
    assert first == Asked(Reply("reply to a", "stop", 1, 2), None, from_ledger=False)
    assert second == Asked(first.reply, None, from_ledger=True)
    assert model.asked == {"a": 1}
    assert model.is_closed


def test_the_same_asker_asks_the_same_only_once(folder: Path) -> None:
    model = Model()

    async def ask() -> list[Asked]:
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        return [await asker.ask(request()) for _ in range(3)]

    asked = run(ask())
    assert model.asked == {"a": 1}
    assert [one.from_ledger for one in asked] == [False, True, True]


def test_what_another_asker_paid_for_is_found_after_a_refresh(folder: Path) -> None:
    model = Model()

    async def ask() -> Asked:
        ledger = Ledger(folder)
        mine, other = Asker(model, ledger, AskingLimits(4)), Asker(model, Ledger(folder), AskingLimits(4))
        await other.ask(request())
        ledger.refresh()
        return await mine.ask(request())

    assert run(ask()).from_ledger
    assert model.asked == {"a": 1}


def test_without_a_ledger_every_question_is_asked() -> None:
    model = Model()

    async def ask() -> None:
        asker = Asker(model, None, AskingLimits(4))
        assert [(await asker.ask(request())).from_ledger for _ in range(2)] == [False, False]
        await asker.close()

    run(ask())
    assert model.asked == {"a": 2}


def test_no_more_are_in_flight_than_allowed_and_no_fewer(folder: Path) -> None:
    model = Model()

    async def ask() -> list[Asked]:
        asker = Asker(model, Ledger(folder), AskingLimits(5))
        return await asyncio.gather(*(asker.ask(request(str(number))) for number in range(50)))

    assert [one.reply and one.reply.text for one in run(ask())] == [
        f"reply to {number}" for number in range(50)
    ]
    assert model.most_in_flight == 5


def test_two_that_ask_the_same_at_once_share_one_call(folder: Path) -> None:
    model = Model()

    async def ask() -> list[Asked]:
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        return await asyncio.gather(*(asker.ask(request()) for _ in range(10)))

    asked = run(ask())
    assert model.asked == {"a": 1}
    assert {one.reply.text for one in asked if one.reply} == {"reply to a"}
    assert sum(not one.from_ledger for one in asked) == 1, "one call is counted as paid for, no more"


def test_two_that_share_a_call_share_its_failure(folder: Path) -> None:
    model = Model(fail_with(ReplyError("refused request", "too long")))

    async def ask() -> list[Asked]:
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        return await asyncio.gather(*(asker.ask(request()) for _ in range(3)))

    assert run(ask()) == [Asked(None, "refused request: too long")] * 3
    assert model.asked == {"a": 1}


def test_a_failure_is_not_kept(folder: Path) -> None:
    failing, well = Model(fail_with(ReplyError("timeout", "no reply in time"))), Model()

    async def ask(model: Model) -> Asked:
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        asked = await asker.ask(request())
        await asker.close()
        return asked

    assert run(ask(failing)) == Asked(None, "timeout: no reply in time")
    assert len(Ledger(folder)) == 0
    assert run(ask(well)).reply is not None
    assert well.asked == {"a": 1}


def test_one_failure_leaves_the_others_alone(folder: Path) -> None:
    async def act(text: str) -> None:
        if text == "3":
            raise ReplyError("server error", "oops")

    async def ask() -> list[Asked]:
        asker = Asker(Model(act), Ledger(folder), AskingLimits(2))
        return await asyncio.gather(*(asker.ask(request(str(number))) for number in range(6)))

    assert [one.failure for one in run(ask())] == [None, None, None, "server error: oops", None, None]


@pytest.mark.parametrize("kind", sorted(PASSING_KINDS))
def test_an_endpoint_that_is_gone_is_not_asked_for_ever(folder: Path, kind: str) -> None:
    model = Model(fail_with(ReplyError(kind, "why it failed")))

    async def ask() -> None:
        asker = Asker(model, Ledger(folder), AskingLimits(1))
        for number in range(10_000):
            assert (await asker.ask(request(str(number)))).reply is None

    with pytest.raises(EndpointError, match="why it failed"):
        run(ask())
    assert model.asked.total() == MAX_FAILURES_IN_A_ROW


def test_one_answer_in_between_shows_that_the_endpoint_is_there(folder: Path) -> None:
    async def act(text: str) -> None:
        if int(text) % MAX_FAILURES_IN_A_ROW:
            raise ReplyError("timeout", "no reply in time")

    async def ask() -> list[Asked]:
        asker = Asker(Model(act), Ledger(folder), AskingLimits(1))
        return [await asker.ask(request(str(number))) for number in range(10 * MAX_FAILURES_IN_A_ROW)]

    assert sum(one.failure is not None for one in run(ask())) == 10 * (MAX_FAILURES_IN_A_ROW - 1)


def test_requests_that_are_at_fault_themselves_say_nothing_of_the_endpoint(folder: Path) -> None:
    async def ask() -> list[Asked]:
        asker = Asker(
            Model(fail_with(ReplyError("refused request", "too long"))), Ledger(folder), AskingLimits(1)
        )
        return [await asker.ask(request(str(number))) for number in range(10 * MAX_FAILURES_IN_A_ROW)]

    assert all(one.failure == "refused request: too long" for one in run(ask()))


def test_an_endpoint_error_reaches_everyone_who_asked(folder: Path) -> None:
    async def ask() -> list[Any]:
        asker = Asker(Model(fail_with(EndpointError("bad key"))), Ledger(folder), AskingLimits(1))
        asking = [asker.ask(request(text)) for text in "aabc"]
        return await asyncio.gather(*asking, return_exceptions=True)

    assert [(type(one), str(one)) for one in run(ask())] == [(EndpointError, "bad key")] * 4


def test_after_an_error_the_same_can_be_asked_again(folder: Path) -> None:
    errors: list[Exception] = [ReplyError("timeout", "late"), RuntimeError("defect")]

    async def act(text: str) -> None:
        if errors:
            raise errors.pop(0)

    async def ask() -> Asked:
        asker = Asker(Model(act), Ledger(folder), AskingLimits(1))
        assert (await asker.ask(request())).failure == "timeout: late"
        with pytest.raises(RuntimeError):
            await asker.ask(request())
        return await asker.ask(request())

    assert run(ask()).reply is not None


def test_after_an_endpoint_error_nothing_more_is_sent(folder: Path) -> None:
    asked: list[str] = []

    async def act(text: str) -> None:
        asked.append(text)
        raise EndpointError("bad key")

    async def ask() -> None:
        asker = Asker(Model(act), Ledger(folder), AskingLimits(1))
        for text in ("one", "two"):
            with pytest.raises(EndpointError, match="bad key"):
                await asker.ask(request(text))

    run(ask())
    assert len(asked) == 1


def test_a_reply_that_cannot_be_kept_is_no_reply(folder: Path) -> None:
    """Going on with a full disk would pay for replies that are lost."""

    class FullDisk(Ledger):
        def record(self, key: str, reply: Reply, model: str | None = None) -> None:
            raise OSError(28, "No space left on device")

    async def ask() -> None:
        await Asker(Model(), FullDisk(folder), AskingLimits(1)).ask(request())

    with pytest.raises(EndpointError, match=r"cannot be kept.*No space left"):
        run(ask())


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_who_gives_up_does_not_take_the_reply_from_the_other(folder: Path, first_to_go: int) -> None:
    async def ask() -> tuple[Asked, Counter[str]]:
        may_answer = asyncio.Event()

        async def act(text: str) -> None:
            await may_answer.wait()

        model = Model(act)
        asker = Asker(model, Ledger(folder), AskingLimits(4))
        tasks = [asyncio.ensure_future(asker.ask(request())) for _ in range(2)]
        await asyncio.sleep(0.05)
        tasks.pop(first_to_go).cancel()
        await asyncio.sleep(0.05)
        may_answer.set()
        return await tasks[0], model.asked

    asked, times = run(ask())
    assert asked.reply is not None
    assert times == {"a": 1}


def test_who_gives_up_while_waiting_gives_the_slot_free(folder: Path) -> None:
    async def ask() -> Asked:
        may_answer = asyncio.Event()

        async def act(text: str) -> None:
            if text == "slow":
                await may_answer.wait()

        asker = Asker(Model(act), Ledger(folder), AskingLimits(1))
        slow, waiting = (asyncio.ensure_future(asker.ask(request(text))) for text in ("slow", "waiting"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        may_answer.set()
        await slow
        return await asker.ask(request("next"))

    assert run(ask()).reply is not None


def test_failures_are_counted_by_kind() -> None:
    assert failure_kind("timeout: no reply: in time") == "timeout"
    assert failure_kind("unreadable: several scores") == "unreadable: several scores"
    assert failure_kind("no answer of model A") == "no answer of model A"
