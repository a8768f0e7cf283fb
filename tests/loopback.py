"""A server on loopback that speaks OpenAI's and Anthropic's protocols: what a provider is to the tests.

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

from aiohttp import web

from tests.loopback_faults import BILLED_FAULTS, Faults, instead
from tests.loopback_limits import Limits
from tests.loopback_protocols import PROTOCOLS, Body, Protocol, error, too_many

__all__ = ["Body", "LoopbackServer", "error", "random_score", "seeded_score"]

Reply = Callable[[Body], str]
Fault = Callable[[Body, int], web.StreamResponse | None]
"""Gets a request's body and how often it was asked before; returns what to answer instead, or None."""


def seeded_score(body: Body) -> str:
    """A pointwise reply whose score hangs on the prompt alone: about 18 % at 4.5 or more."""
    digest = hashlib.sha256(repr(body["messages"]).encode()).digest()
    score = random.Random(digest).choices([2.5, 3.0, 3.5, 4.0, 4.5, 5.0], [1, 3, 21, 57, 17, 1])[0]
    return f"{score:g}\nThe response follows the instruction; some details could be better."


def seeded_pair(body: Body) -> str:
    """A pairwise reply whose two scores hang on the prompt alone."""
    draw = random.Random(hashlib.sha256(repr(body["messages"]).encode()).digest())
    first, second = draw.choices([6, 7, 8, 9], k=2)
    return f"{first} {second}\nBoth answer the question; one of them gives more details."


def random_score(seed: int) -> Reply:
    """A judge that throws dice: its scores say nothing about the rows."""
    return lambda body: f"{random.Random(f'{seed}{body}').choice([3.0, 3.5, 4.0, 4.0, 4.5])}\nA guess."


def no_poison(body: Body) -> bool:
    return False


@dataclass
class LoopbackServer:
    """OpenAI's chat completions and completions and Anthropic's messages, with a reply of one's own."""

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
    host: str = "127.0.0.1"
    """Of this machine's addresses the one to listen at."""
    limits: Limits = field(default_factory=Limits)
    """Requests above them get a 429 with Retry-After; what is left stands in the headers of every answer."""
    faults: Faults = field(default_factory=lambda: Faults({}))
    poison: Callable[[Body], bool] = no_poison
    """Requests that always fail, with status 500."""
    usage: dict[str, Counter[str]] = field(default_factory=dict)
    """What each endpoint would bill: prompt_tokens and completion_tokens, of lost replies too."""
    connections: set[int] = field(default_factory=set)
    """The client's port of each."""
    _in_flight: int = 0

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

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
        for path in PROTOCOLS:
            app.router.add_post(path, self._answer)
        app.router.add_get("/stats", self._stats)
        return app

    async def start(self) -> web.AppRunner:
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port, backlog=1024).start()
        self.port = runner.addresses[0][1]
        return runner

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self.start())
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
                "rate_limited": self.limits.rate_limited,
                "faults": self.faults.dealt,
                "usage": self.usage,
                "connections": len(self.connections),
            }
        )

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        protocol = PROTOCOLS[request.path]
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        response = await self._answer_in(protocol, request, await request.json())
        if not response.prepared:
            response.headers.update(protocol.limit_headers(self.limits))
        return response

    async def _answer_in(self, protocol: Protocol, request: web.Request, body: Body) -> web.StreamResponse:
        if self.api_key and self.api_key not in protocol.keys(request):
            return protocol.error(401, "Incorrect API key provided.")
        if self.models is not None and body["model"] not in self.models:
            return protocol.error(404, f"The model `{body['model']}` does not exist.")
        prompt = str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])
        times = self.asked[prompt]
        self.asked[prompt] += 1
        reserved = protocol.reserved_tokens(body, prompt)
        if (short := self.limits.admit(reserved)) is not None:
            return too_many(protocol, *short)
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            if (answer := self.fault(body, times)) is not None:
                return answer
            if self.poison(body):
                return protocol.error(500, "This prompt always fails.")
            fault = self.faults.deal(prompt, times)
            if fault == "stall":
                await asyncio.sleep(self.faults.stall_s)
                fault = None
            text = self.reply(body)
        finally:
            self._in_flight -= 1
        tokens = Counter(prompt_tokens=len(prompt.split()), completion_tokens=len(text.split()))
        whole = protocol.whole(request.path, body["model"], text, tokens)
        if fault is None or fault in BILLED_FAULTS:
            self.usage.setdefault(request.path, Counter()).update(tokens)
        if fault is not None:
            return instead(fault, whole, self.faults, protocol.error)
        self.limits.give_back(protocol.unused_tokens(reserved, tokens))
        self.answered[prompt] += 1
        return web.json_response(whole)


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    return name, float(share)


async def _run(server: LoopbackServer) -> None:
    await server.start()
    print(f"loopback at {server.base_url}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8900, help="0: any free port, printed in a line")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--requests-per-minute", type=float)
    parser.add_argument("--tokens-per-minute", type=float)
    parser.add_argument("--window-s", type=float, default=60.0, help="how long an empty limit takes to fill")
    parser.add_argument("--fault", type=_share, action="append", default=[], metavar="NAME=SHARE")
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--stall-s", type=float, default=5.0)
    parser.add_argument("--pairs", action="store_true", help="reply with two scores")
    parser.add_argument("--poison", metavar="TEXT", help="prompts that hold this always fail")
    args = parser.parse_args()
    server = LoopbackServer(
        reply=seeded_pair if args.pairs else seeded_score,
        latency_s=args.latency_ms / 1000,
        port=args.port,
        limits=Limits(args.requests_per_minute, args.tokens_per_minute, args.window_s),
        faults=Faults(dict(args.fault), args.fault_seed, args.stall_s),
        poison=lambda body: bool(args.poison) and args.poison in str(body),
    )
    asyncio.run(_run(server))
