"""The ways from requests to answers: an endpoint that many ask at once, or an engine of one's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from alpagasus_ray.console import Progress
from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.asking import Asked, Asker, AskingLimits
from alpagasus_ray.llm.chat import EndpointError, Reply, ReplyError, Request
from alpagasus_ray.llm.concurrency import START
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import GenerateSettings


class Road(Protocol):
    """One way to get answers."""

    def __call__(self, requests: Sequence[Request], replies: Ledger, progress: Progress) -> list[Asked]:
        """Return what became of each request, in order; `progress` hears of each.

        Every reply is in `replies` as soon as it is there, and nobody is asked for one that is there already.
        Raises UserError when none can be answered.
        """
        ...


@dataclass(frozen=True)
class Remembered:
    """A Road to replies that were paid for before."""

    replies: Mapping[str, Reply]
    """By the request's key: one for every request."""

    def __call__(self, requests: Sequence[Request], replies: Ledger, progress: Progress) -> list[Asked]:
        """Return what became of each request, as Road says."""
        replies.close()
        progress.found(len(requests))
        return [Asked(self.replies[request.key], from_ledger=True) for request in requests]


class EndpointRoad:
    """Through an OpenAI-compatible endpoint. One event loop keeps it busy."""

    def __init__(
        self, base_url: str, api_key: str | None, settings: GenerateSettings, *, is_ours: bool = False
    ) -> None:
        """`is_ours`: nobody else asks it, so it gets all requests at once that it may have."""
        self._base_url, self._api_key, self._settings, self._is_ours = base_url, api_key, settings, is_ours
        most = settings.max_concurrency
        self._limits = AskingLimits(most, settings.max_retries, start_concurrency=most if is_ours else START)

    def __call__(self, requests: Sequence[Request], replies: Ledger, progress: Progress) -> list[Asked]:
        """Return what became of each request, as Road says."""
        try:
            return asyncio.run(self._ask_all(requests, replies, progress))
        except EndpointError as error:
            raise UserError(str(error)) from error

    async def _ask_all(self, requests: Sequence[Request], replies: Ledger, progress: Progress) -> list[Asked]:
        from alpagasus_ray.llm.openai_chat import OpenAIChat  # the SDK takes a second to import

        settings = self._settings
        model = OpenAIChat(self._base_url, self._api_key, settings.timeout_s)
        asker = Asker(model, replies, self._limits)

        async def ask(request: Request) -> Asked:
            asked = await asker.ask(request)
            if asked.from_ledger:
                progress.found()
            else:
                progress.advance()
            return asked

        try:
            if not self._is_ours:
                await self._ask_first(requests, replies)
            return await asyncio.gather(*(ask(request) for request in requests))
        finally:
            await asker.close()

    async def _ask_first(self, requests: Sequence[Request], replies: Ledger) -> None:
        """Raise UserError where nobody is there: said at once, and not after all tries of all requests."""
        from alpagasus_ray.llm.openai_chat import OpenAIChat

        known = replies.known([request.key for request in requests])
        missing = next((request for request in requests if request.key not in known), None)
        if missing is None:
            return
        model = OpenAIChat(self._base_url, self._api_key, self._settings.timeout_s)
        try:
            replies.record(missing.key, await model.complete(missing), missing.model)
        except ReplyError as error:
            if error.kind == "connection":
                said = f"{self._base_url} cannot be reached: "
                raise UserError(said + str(error).removeprefix(said)) from error
        finally:
            await model.close()
