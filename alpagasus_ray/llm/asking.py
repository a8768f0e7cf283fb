"""Asking: the one way to a model. Ledger first, then the model, at most so many at once, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpagasus_ray.llm.allowance import Allowance, SpendingLimitError, Usage, own_dealer
from alpagasus_ray.llm.budget import Limits, Want
from alpagasus_ray.llm.chat import PASSING_KINDS, ChatModel, EndpointError, Reply, ReplyError, Request
from alpagasus_ray.llm.concurrency import START, AdaptiveConcurrency
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.prices import Price
from alpagasus_ray.llm.retrying import Breaker, Tries
from alpagasus_ray.llm.token_counts import upper_bound_tokens

LAST_REPLIES_S = 5.0
"""How long replies that are under way are waited for at the end."""
UNREADABLE, SET_ASIDE = "unreadable", "set aside"
"""Failures that are counted by their reason, not by their kind."""
BYTES_PER_TOKEN = 4
"""Of English prose. What is reserved of a tokens-per-minute limit is put right when the reply comes."""
NOT_ASKED = "not asked"
"""The kind of what was left out because the dollars were used up."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a request: a reply, or the kind and text of its failure."""

    reply: Reply | None
    failure: str | None = None
    from_ledger: bool = False


@dataclass(frozen=True, slots=True)
class AskingLimits:
    """How hard an endpoint is asked."""

    max_concurrency: int
    max_retries: int = 0
    price: Price | None = None
    """None: not known, and no dollars are counted."""
    start_concurrency: int = START
    """Requests in flight at first: an endpoint that is nobody else's can have all of them."""


class _Call:
    """One request under way, and those who wait for its reply."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Asked] | None = None
        self.is_sent = False
        self._num_waiting = 0

    async def wait(self) -> Asked:
        """Return what became of it. Cancelled, it takes away neither the others' reply nor a paid one."""
        assert self.task is not None
        self._num_waiting += 1
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self._num_waiting == 1 and not self.is_sent:
                self.task.cancel()
            raise
        finally:
            self._num_waiting -= 1


class Asker:
    """Asks one model. Belongs to one event loop; many coroutines may ask at once."""

    def __init__(
        self,
        model: ChatModel,
        ledger: Ledger | None,
        limits: AskingLimits,
        allowance: Allowance | None = None,
        *,
        has_replied: bool = False,
    ) -> None:
        """`has_replied`: the model has just answered others, so one refused request is no sign of its end."""
        self._model, self._ledger = model, ledger
        self._limits = limits
        self._allowance = allowance or Allowance(own_dealer(), Limits(), "alone")
        self._model.on_limits = self._allowance.see
        self._concurrency = AdaptiveConcurrency(limits.max_concurrency, limits.start_concurrency)
        self._breaker = Breaker(has_replied)
        self._pending: dict[str, _Call] = {}
        self._refused: EndpointError | None = None

    async def known(self, keys: Sequence[str]) -> dict[str, Reply]:
        """Return the replies that the ledger holds already, those of other processes included.

        Raises EndpointError when the ledger cannot be read.
        """
        if self._ledger is None:
            return {}
        ledger = self._ledger
        try:
            # An object store takes its time; a local disk is faster than handing over to a thread.
            return ledger.find(keys) if ledger.files.is_local else await asyncio.to_thread(ledger.find, keys)
        except OSError as error:
            raise EndpointError(f"stopped, since the ledger cannot be read: {error}") from error

    async def ask(self, request: Request, *, is_new: bool = False) -> Asked:
        """Return the reply, from the ledger where it is known, or why there is none.

        `is_new`: `known` was asked for it just now. Two that ask the same at the same time share one call.
        Raises EndpointError when no request can succeed, or when the ledger cannot keep a reply.
        """
        key = request.key
        if not is_new and (found := await self.known([key])):
            return Asked(found[key], from_ledger=True)
        if key in self._pending:
            first = await self._pending[key].wait()
            return Asked(first.reply, first.failure, from_ledger=first.reply is not None)
        call = self._pending[key] = _Call()
        call.task = asyncio.ensure_future(self._ask_model(key, request, call))
        call.task.add_done_callback(lambda task: self._done(key, task))
        return await call.wait()

    def _done(self, key: str, task: asyncio.Task[Asked]) -> None:
        self._pending.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at: where nobody waits any more, its end was told by another

    async def flush(self) -> None:
        """Return when every reply so far is stored, and the budget told of it where it was the last.

        Raises EndpointError where that is not possible.
        """
        await self._allowance.rest()
        if self._ledger is None or self._ledger.files.is_local:
            return
        try:
            await asyncio.to_thread(self._ledger.flush)
        except OSError as error:
            raise EndpointError(f"stopped, since replies cannot be kept: {error}") from error

    async def close(self) -> None:
        """Release the model's connections and the ledger's segment.

        Replies that are under way are waited for, a few seconds at most: they are paid for.
        """
        tasks = [call.task for call in self._pending.values() if call.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_REPLIES_S)
        await self._allowance.close()
        await self._model.close()
        if self._ledger is not None:
            # A store that fails is waited for, up to a minute: not on the event loop.
            await asyncio.to_thread(self._ledger.close)

    async def _ask_model(self, key: str, request: Request, call: _Call) -> Asked:
        tries = Tries(self._limits.max_retries)
        want = self._want(request)
        while True:
            try:
                reply = await self._try(request, want, call)
            except SpendingLimitError:
                return Asked(None, failure=f"{NOT_ASKED}: what is left of the dollars does not cover it")
            except ReplyError as error:
                delay_s = tries.delay_s(error)
                self._breaker.failed(error, for_good=delay_s is None)
                if delay_s is None:
                    return Asked(None, failure=f"{error.kind}: {error}")
                call.is_sent = False
            except EndpointError as error:
                if not self._is_of_row(error):
                    raise
                self._breaker.refused(error)
                return Asked(None, failure=f"refused request: {error}")
            else:
                self._breaker.replied()
                self._keep(key, reply, request.model)
                return Asked(reply)
            # The slot is free meanwhile: a request that fails again and again holds up no other.
            self._allowance.num_retrying += 1
            try:
                await asyncio.sleep(delay_s)
            finally:
                self._allowance.num_retrying -= 1

    async def _try(self, request: Request, want: Want, call: _Call) -> Reply:
        """Send a request once, when there is a slot and leave to."""
        async with self._concurrency.slot():
            self._raise_if_gone()
            await self._allowance.acquire(want)
            self._raise_if_gone()
            call.is_sent = True
            used = Usage(0, 0.0)
            try:
                reply = await self._model.complete(request)
                used = Usage(reply.prompt_tokens + reply.completion_tokens, self._cost_usd(reply))
                self._concurrency.replied()
                return reply
            except ReplyError as error:
                if error.may_be_billed:
                    used = Usage(want.tokens, want.cost_usd)
                self._allowance.num_rate_limited += error.kind == "rate limited"
                if error.kind in ("rate limited", "timeout"):
                    self._concurrency.too_much()
                if error.retry_after_s:
                    self._allowance.pause(error.retry_after_s)
                raise
            except EndpointError as error:
                if not self._is_of_row(error):
                    self._refused = error
                raise
            finally:
                self._allowance.settle(want, used)

    def _is_of_row(self, error: EndpointError) -> bool:
        return error.may_be_the_row and self._breaker.has_replied

    def _keep(self, key: str, reply: Reply, model: str) -> None:
        """Keep a paid reply; raises EndpointError, and has nothing more sent, where that is not possible."""
        if self._ledger is None:
            return
        try:
            self._ledger.record(key, reply, model)
        except OSError as error:
            self._refused = EndpointError(f"stopped, since replies cannot be kept: {error}")
            raise self._refused from error

    def _raise_if_gone(self) -> None:
        if (gone := self._refused or self._breaker.broken) is not None:
            raise gone

    def _want(self, request: Request) -> Want:
        prompt, completion = upper_bound_tokens(request), request.sampling.max_tokens
        price = self._limits.price
        cost_usd = 0.0 if price is None else price.cost_usd(prompt, completion)
        return Want(prompt // BYTES_PER_TOKEN + completion, cost_usd)

    def _cost_usd(self, reply: Reply) -> float:
        price = self._limits.price
        return 0.0 if price is None else price.cost_usd(reply.prompt_tokens, reply.completion_tokens)


def num_passing(failures: Mapping[str, int]) -> int:
    """Return how many of these failures, counted by kind, may pass when asked again."""
    return sum(count for kind, count in failures.items() if kind in PASSING_KINDS or kind == NOT_ASKED)


def is_unreadable(failure: str | None) -> bool:
    """Return whether a failure is a reply that came, in which no score could be read."""
    return failure is not None and failure.startswith(UNREADABLE)


def failure_kind(failure: str) -> str:
    """Return what a failure is counted by: its kind, or the whole of it where only the reason tells.

    >>> failure_kind("timeout: no reply in time"), failure_kind("unreadable: several scores")
    ('timeout', 'unreadable: several scores')
    """
    kind, _, _ = failure.partition(": ")
    return failure if kind in (UNREADABLE, SET_ASIDE) else kind
