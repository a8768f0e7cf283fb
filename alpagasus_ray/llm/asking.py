"""Asking: the one way to a model. Ledger first, then the model, at most so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from alpagasus_ray.llm.chat import PASSING_KINDS, ChatModel, EndpointError, Reply, ReplyError, Request
from alpagasus_ray.llm.ledger import Ledger

MAX_FAILURES_IN_A_ROW = 32
"""After so many unanswered requests with no answer between them, the endpoint counts as gone."""
LAST_REPLIES_S = 5.0
"""How long replies that are under way are waited for at the end."""
UNREADABLE, SET_ASIDE = "unreadable", "set aside"
"""Failures that are counted by their reason, not by their kind."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a request: a reply, or the kind and text of its failure."""

    reply: Reply | None
    failure: str | None = None
    from_ledger: bool = False


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

    def __init__(self, model: ChatModel, ledger: Ledger | None, max_concurrency: int) -> None:
        self._model = model
        self._ledger = ledger
        self._slots = asyncio.Semaphore(max_concurrency)
        self._pending: dict[str, _Call] = {}
        self._failures_in_a_row = 0
        self._gone: EndpointError | None = None
        """Why nothing more is asked: the requests in the queue would fail as well."""

    async def ask(self, request: Request) -> Asked:
        """Return the reply, from the ledger where it is known, or why there is none.

        Two that ask the same at the same time share one call. Raises EndpointError when no request
        can succeed, and OSError when the ledger cannot keep a reply.
        """
        key = request.key
        if self._ledger is not None and (known := self._ledger.lookup(key)) is not None:
            return Asked(known, from_ledger=True)
        if key in self._pending:
            first = await self._pending[key].wait()
            return Asked(first.reply, first.failure, from_ledger=first.reply is not None)
        call = self._pending[key] = _Call()
        call.task = asyncio.ensure_future(self._ask_model(key, request, call))
        call.task.add_done_callback(lambda _: self._pending.pop(key, None))
        return await call.wait()

    def refresh(self) -> None:
        """Take in what others have added to the ledger."""
        if self._ledger is not None:
            self._ledger.refresh()

    async def close(self) -> None:
        """Release the model's connections and the ledger's segment.

        Replies that are under way are waited for, a few seconds at most: they are paid for.
        """
        if under_way := [call.task for call in self._pending.values() if call.task is not None]:
            await asyncio.wait(under_way, timeout=LAST_REPLIES_S)
        await self._model.close()
        if self._ledger is not None:
            self._ledger.close()

    async def _ask_model(self, key: str, request: Request, call: _Call) -> Asked:
        async with self._slots:
            if self._gone is not None:
                raise self._gone
            call.is_sent = True
            try:
                reply = await self._model.complete(request)
            except ReplyError as error:
                self._count_failure(error)
                return Asked(None, failure=f"{error.kind}: {error}")
            except EndpointError as error:
                self._gone = error
                raise
        self._failures_in_a_row = 0
        if self._ledger is not None:
            self._ledger.record(key, reply)
        return Asked(reply)

    def _count_failure(self, error: ReplyError) -> None:
        if error.kind not in PASSING_KINDS:
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self._gone = EndpointError(
                f"the last {self._failures_in_a_row} requests all failed ({error.kind}: {error}): "
                "check the endpoint and run the same command again; finished rows are kept"
            )
            raise self._gone from error


def num_passing(failures: Mapping[str, int]) -> int:
    """Return how many of these failures, counted by kind, may pass when asked again."""
    return sum(count for kind, count in failures.items() if kind in PASSING_KINDS)


def failure_kind(failure: str) -> str:
    """Return what a failure is counted by: its kind, or the whole of it where only the reason tells.

    >>> failure_kind("timeout: no reply in time"), failure_kind("unreadable: several scores")
    ('timeout', 'unreadable: several scores')
    """
    kind, _, _ = failure.partition(": ")
    return failure if kind in (UNREADABLE, SET_ASIDE) else kind
