"""A server on loopback that speaks OpenAI's protocol: what a provider is to the tests.

Runs in a thread (`LoopbackServer`) or as a process: `python -m tests.loopback --port 8900 --latency-ms 200`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]
Reply = Callable[[Body], str]
Fault = Callable[[Body, int], web.StreamResponse | None]
"""Gets a request's body and how often it was asked before; returns what to answer instead, or None."""


def seeded_score(body: Body) -> str:
    """A pointwise reply whose score hangs on the prompt alone: about 18 % at 4.5 or more."""
    digest = hashlib.sha256(repr(body["messages"]).encode()).digest()
    score = random.Random(digest).choices([2.5, 3.0, 3.5, 4.0, 4.5, 5.0], [1, 3, 21, 57, 17, 1])[0]
    return f"{score:g}\nThe response follows the instruction; some details could be better."


def random_score(seed: int) -> Reply:
    """A judge that throws dice: its scores say nothing about the rows."""
    return lambda body: f"{random.Random(f'{seed}{body}').choice([3.0, 3.5, 4.0, 4.0, 4.5])}\nA guess."


@dataclass
class LoopbackServer:
    """OpenAI's chat completions and completions, with a reply of one's own, a delay and faults."""

    reply: Reply = seeded_score
    latency_s: float = 0.0
    fault: Fault = lambda body, times: None
    api_key: str | None = None
    models: tuple[str, ...] | None = None
    """None: every model is known."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each prompt was asked."""
    answered: Counter[str] = field(default_factory=Counter)
    """How often each prompt was given a reply that costs money."""
    max_in_flight: int = 0
    port: int = 0
    _in_flight: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> LoopbackServer:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the loopback server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_get("/stats", self._stats)
        return app

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "asked": self.asked.total(),
                "answered": self.answered.total(),
                "prompts": len(self.answered),
                "max_in_flight": self.max_in_flight,
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(
            request, "chat.completion", lambda text: {"message": {"role": "assistant", "content": text}}
        )

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "text_completion", lambda text: {"text": text, "logprobs": None})

    async def _answer(
        self, request: web.Request, kind: str, choice: Callable[[str], Body]
    ) -> web.StreamResponse:
        body = await request.json()
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return error(401, "Incorrect API key provided.", "invalid_api_key")
        if self.models is not None and body["model"] not in self.models:
            return error(404, f"The model `{body['model']}` does not exist.", "model_not_found")
        prompt = str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            times = self.asked[prompt]
            self.asked[prompt] += 1
            await asyncio.sleep(self.latency_s)
            if (instead := self.fault(body, times)) is not None:
                return instead
            text = self.reply(body)
            self.answered[prompt] += 1
        finally:
            self._in_flight -= 1
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        return web.json_response(
            {
                "id": "loopback",
                "object": kind,
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", **choice(text)}],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            }
        )


def error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    args = parser.parse_args()
    server = LoopbackServer(latency_s=args.latency_ms / 1000)
    web.run_app(server.app(), host="127.0.0.1", port=args.port, access_log=None, backlog=1024)
