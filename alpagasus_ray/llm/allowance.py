"""A client's side of the account's budget: leave to send a request, and what it used in the end."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import islice

from alpagasus_ray.llm.budget import MAX_PAUSE_S, AccountBudget, Call, Deal, Limits, Want
from alpagasus_ray.llm.chat import RateLimits
from alpagasus_ray.llm.job_dollars import HEARTBEAT_S

MAX_WANTS = 256
PAUSE_SLACK_S = 1.0
"""Time on the way makes a pause that is passed on a little longer: what differs by less is the same one."""
Dealer = Callable[[Call], Awaitable[Deal]]


class SpendingLimitError(Exception):
    """What is left of the job's dollars does not cover this request; it may cover a smaller one."""


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
        self._seen: RateLimits | None = None
        self._returned_tokens = 0
        self._was_dealt = False
        self._told: tuple[float, ...] | None = None
        self._left_usd, self._gone_usd = float("inf"), 0.0
        self._reserved_usd = 0.0
        self.spent_usd = 0.0
        """By the requests of this client."""
        self.num_retrying = 0
        """Requests that failed and wait to be sent again, for those who ask how it stands."""
        self.num_rate_limited = 0
        """Requests that the endpoint had no room for, from this client's start, for the same."""
        self._num_in_flight = 0

    async def acquire(self, want: Want) -> None:
        """Return when one request may be sent; raises SpendingLimitError where dollars do not cover it."""
        if want.cost_usd > self._left_usd:  # thousands of such rows need no call each
            raise SpendingLimitError
        now_s = time.monotonic()
        if not self._waiting and self._paused_until_s <= now_s < self._free_until_s:
            self._grant(want)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((want, granted))
        self._work()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.settle(want, Usage(0, 0.0))  # it was granted at the very moment
            raise

    def settle(self, want: Want, used: Usage) -> None:
        """Say what a request used in the end; what it did not use is given back."""
        self._num_in_flight -= 1
        self._reserved_usd = max(0.0, self._reserved_usd - want.cost_usd)
        self.spent_usd += used.cost_usd
        self._returned_tokens += want.tokens - used.tokens

    def see(self, limits: RateLimits) -> None:
        """Pass on what a response's headers said."""
        self._seen = limits

    def pause(self, pause_s: float) -> None:
        """Let everybody leave the provider alone for a while."""
        until_s = time.monotonic() + min(pause_s, MAX_PAUSE_S)
        self._paused_until_s = max(self._paused_until_s, until_s)
        self._work()

    async def rest(self) -> None:
        """Tell the budget that nothing is under way any more.

        An actor that has done its work is ended without a word: what it last said it had reserved would
        count as reserved for a minute, and as spent after that. Does nothing while requests are under way.
        """
        while not self._waiting and not self._num_in_flight and self._told != self._state():
            self._work()
            if self._task is not None:
                await asyncio.wait([self._task])

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
            if self._has_to_call():
                self._work()

    def _has_to_call(self) -> bool:
        # With limited dollars a budget made anew has to hear from all who have spent some.
        is_busy = self._reserved_usd > 0 or bool(self._waiting) or self.num_retrying > 0
        return is_busy or self._limits.max_cost_usd is not None or self._told != self._state()

    def _state(self) -> tuple[float, ...]:
        requests = (self.num_retrying, self._num_in_flight, self.num_rate_limited)
        return self.spent_usd, self._reserved_usd, *requests

    def _grant(self, want: Want) -> None:
        self._num_in_flight += 1
        self._reserved_usd += want.cost_usd

    async def _deal(self) -> None:
        try:
            while True:
                self._waiting = deque(one for one in self._waiting if not one[1].done())
                wants = tuple(want for want, _ in islice(self._waiting, MAX_WANTS))
                deal = await self._dealer(self._call(wants))
                self._take(deal)
                if not self._waiting:
                    return
                # However long the pause, the budget has to hear that this client is alive.
                await asyncio.sleep(min(deal.wait_s, HEARTBEAT_S))
        except Exception as error:  # whoever waits has to hear of it
            while self._waiting:
                _, granted = self._waiting.popleft()
                if not granted.done():
                    granted.set_exception(error)

    def _call(self, wants: tuple[Want, ...]) -> Call:
        returned, self._returned_tokens = self._returned_tokens, 0
        seen = self._seen
        if seen is not None:
            # The limits are told again, to a budget made anew too; what was left of them is old news.
            self._seen = replace(seen, requests_left=None, tokens_left=None)
        self._told = self._state()
        return Call(
            self._client,
            self._job,
            self._limits,
            wants,
            self.spent_usd,
            self._reserved_usd,
            returned_tokens=returned,
            gone_usd=self._gone_usd,
            was_dealt=self._was_dealt,
            seen=seen,
            pause_s=max(0.0, self._paused_until_s - time.monotonic()),
            num_retrying=self.num_retrying,
            num_in_flight=self._num_in_flight,
            num_rate_limited=self.num_rate_limited,
        )

    def _take(self, deal: Deal) -> None:
        now_s = time.monotonic()
        self._was_dealt = True
        self._free_until_s = now_s + deal.unlimited_s
        self._left_usd, self._gone_usd = deal.left_usd, deal.gone_usd
        if now_s + deal.paused_s > self._paused_until_s + PAUSE_SLACK_S:
            self._paused_until_s = now_s + deal.paused_s
        granted_places = frozenset(deal.granted)
        waiting, self._waiting = self._waiting, deque()
        for place, (want, granted) in enumerate(waiting):
            if place in granted_places:
                if granted.done():  # cancelled meanwhile
                    self._returned_tokens += want.tokens
                    continue
                self._grant(want)
                granted.set_result(None)
            elif want.cost_usd <= deal.left_usd:
                self._waiting.append((want, granted))
            elif not granted.done():
                granted.set_exception(SpendingLimitError())


def own_dealer() -> Dealer:
    """Return the dealer of a process that asks alone."""
    budget = AccountBudget(time.monotonic())

    async def deal(call: Call) -> Deal:
        return budget.deal(call, time.monotonic())

    return deal
