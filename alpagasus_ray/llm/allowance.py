"""A client's side of the account's budget: leave to send a request, and what it used in the end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from alpagasus_ray.llm.budget import AccountBudget, Call, Deal, Limits, Want
from alpagasus_ray.llm.chat import RateLimits

HEARTBEAT_S = 5.0
"""A client with requests under way calls at least this often, or its reservations are written off."""
MAX_WANTS = 256
Dealer = Callable[[Call], Awaitable[Deal]]


class SpendingLimitError(Exception):
    """The dollars that this job may spend are used up: nothing more is asked."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request used in the end."""

    tokens: int
    cost_usd: float


class Allowance:
    """Leave to ask, for all the coroutines of one event loop.

    One call to the dealer is under way at a time, and takes all that wait with it: at a high rate many
    requests share a call, and without limits there is one call a second.
    """

    def __init__(self, dealer: Dealer, limits: Limits, job: str) -> None:
        self._dealer, self._limits, self._job = dealer, limits, job
        self._client = uuid.uuid4().hex
        self._waiting: deque[tuple[Want, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._free_until_s = self._paused_until_s = 0.0
        self._pause_s = 0.0
        self._seen: RateLimits | None = None
        self._returned_tokens = 0
        self._was_retrying = False
        self._reserved_usd = 0.0
        self.spent_usd = 0.0
        """By the requests of this client."""
        self.is_spent = False
        self.num_retrying = 0
        """Requests that failed and wait to be sent again, for those who ask how it stands."""

    async def acquire(self, want: Want) -> None:
        """Return when one request may be sent; raises SpendingLimitError when none may any more."""
        if self.is_spent:
            raise SpendingLimitError
        now_s = time.monotonic()
        if not self._waiting and self._paused_until_s <= now_s < self._free_until_s:
            self._reserved_usd += want.cost_usd
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((want, granted))
        self._work()
        await granted

    def settle(self, want: Want, used: Usage) -> None:
        """Say what a request used in the end; what it did not use is given back."""
        self._reserved_usd = max(0.0, self._reserved_usd - want.cost_usd)
        self.spent_usd += used.cost_usd
        self._returned_tokens += want.tokens - used.tokens

    def see(self, limits: RateLimits) -> None:
        """Pass on what a response's headers said."""
        self._seen = limits

    def pause(self, pause_s: float) -> None:
        """Let everybody leave the provider alone for a while."""
        self._pause_s = max(self._pause_s, pause_s)
        self._paused_until_s = max(self._paused_until_s, time.monotonic() + pause_s)
        self._work()

    async def close(self) -> None:
        """Say the last word to the account, and end."""
        for task in (self._task, self._heart):
            if task is not None:
                task.cancel()
        for _, granted in self._waiting:
            granted.cancel()
        self._waiting.clear()
        await self._dealer(self._call(()))

    def _work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._deal())
        if self._heart is None:
            self._heart = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self._reserved_usd or self._waiting or self.num_retrying or self._was_retrying:
                self._work()

    async def _deal(self) -> None:
        try:
            while True:
                wants = tuple(want for want, _ in list(self._waiting)[:MAX_WANTS])
                deal = await self._dealer(self._call(wants))
                self._take(deal)
                if not self._waiting:
                    return
                await asyncio.sleep(deal.wait_s)
        except Exception as error:  # whoever waits has to hear of it
            while self._waiting:
                _, granted = self._waiting.popleft()
                if not granted.done():
                    granted.set_exception(error)

    def _call(self, wants: tuple[Want, ...]) -> Call:
        returned, self._returned_tokens = self._returned_tokens, 0
        seen, self._seen = self._seen, None
        pause_s, self._pause_s = self._pause_s, 0.0
        call = Call(self._client, self._job, self._limits, wants, self.spent_usd, self._reserved_usd)
        self._was_retrying = self.num_retrying > 0
        return replace(
            call, returned_tokens=returned, seen=seen, pause_s=pause_s, num_retrying=self.num_retrying
        )

    def _take(self, deal: Deal) -> None:
        now_s = time.monotonic()
        self._free_until_s = now_s + deal.unlimited_s
        for _ in range(deal.num_granted):
            want, granted = self._waiting.popleft()
            if granted.done():  # cancelled meanwhile
                self._returned_tokens += want.tokens
                continue
            self._reserved_usd += want.cost_usd
            granted.set_result(None)
        if deal.is_spent:
            self.is_spent = True
            while self._waiting:
                _, granted = self._waiting.popleft()
                if not granted.done():
                    granted.set_exception(SpendingLimitError())


def own_dealer() -> Dealer:
    """Return the dealer of a process that asks alone."""
    budget = AccountBudget(time.monotonic())

    async def deal(call: Call) -> Deal:
        return budget.deal(call, time.monotonic())

    return deal
