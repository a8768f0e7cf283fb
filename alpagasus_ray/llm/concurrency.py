"""How many requests are in flight: up fast while the endpoint keeps up, down when it does not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START = 32
CUT = 0.7
"""Multiplicative decrease; 0.7 as in CUBIC (RFC 9438, section 4.6): half would idle an endpoint that only
stumbled."""
TOLERATED_SHARE = 0.15
"""Of the replies of one round that may say "too much": single ones are an endpoint's ordinary faults."""
MIN_ROUND_REPLIES = 8


class AdaptiveConcurrency:
    """Slots for requests, as many as the endpoint can take and `most` at most.

    It starts with `start` and doubles a round (TCP's slow start, RFC 5681, section 3.1) until the endpoint is
    too busy; then it cuts, and grows by one a round. It grows only while all slots are taken: idle ones
    prove nothing.
    """

    def __init__(self, most: int, start: int = START) -> None:
        self._most = most
        self._limit = float(min(most, start))
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_starting = True
        self._replies = self._too_much = 0

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """How many are."""
        return self._in_flight

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for as long as the block lasts; first come, first served."""
        if self._in_flight >= self.limit or self._waiting:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()  # it was given a slot at the very moment
                raise
        else:
            self._in_flight += 1
        try:
            yield
        finally:
            self._leave()

    def replied(self) -> None:
        """Count a reply."""
        # Whoever replied still holds its slot.
        if self._in_flight >= self.limit:
            growth = 1.0 if self._is_starting else 1.0 / self._limit
            self._limit = min(float(self._most), self._limit + growth)
        self._count(too_much=False)

    def too_much(self) -> None:
        """Count a sign that the endpoint has too much to do: a 429, a time-out."""
        self._count(too_much=True)

    def _count(self, *, too_much: bool) -> None:
        self._replies += 1
        self._too_much += too_much
        if self._replies < max(MIN_ROUND_REPLIES, self.limit):
            return
        if self._too_much > TOLERATED_SHARE * self._replies:
            self._limit = max(1.0, self._limit * CUT)
            self._is_starting = False
        self._replies = self._too_much = 0

    def _leave(self) -> None:
        self._in_flight -= 1
        while self._waiting and self._in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
