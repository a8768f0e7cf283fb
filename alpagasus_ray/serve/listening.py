"""The endpoint's HTTP server, in the ingress's own process instead of Ray Serve's proxy before it.

The proxy is a process more that reads every request, hands it to the ingress through Ray, part by part, and
the answer back: a third of what the endpoint computes besides its engine (benchmarks/generation.py). Where
there is one ingress and one address it does nothing else. Files for `serve deploy` and KubeRay keep it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.serve.ports import listening_socket
from alpagasus_ray.serve.refusals import AsgiApp, Receive, Scope, Send

HEALTH_PATH = "/-/healthz"
"""Where load balancers ask, as at Serve's own proxy: without a key."""
KEEP_ALIVE_S = 90
"""Idle connections; as Serve's proxy has it."""
ENDS_WITHIN_S = 1
LOOK_AGAIN_S = 0.01


@dataclass(frozen=True)
class Listening:
    """The lifespan of a FastAPI application that listens itself for as long as it lives."""

    inner: Callable[[Any], AbstractAsyncContextManager[Any]]
    """The application's own lifespan."""
    host: str
    port: int

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[None]:
        """Listen on host and port until the context ends; raises OSError where that cannot be had."""
        import uvicorn  # comes with Ray Serve: known where it runs

        async with self.inner(app):
            settings = uvicorn.Config(
                with_health(app),
                lifespan="off",  # this is it
                log_config=None,
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=ENDS_WITHIN_S,
            )
            server = uvicorn.Server(settings)
            with listening_socket(self.host, self.port) as listener:
                task = asyncio.ensure_future(server.serve([listener]))
                while not server.started and not task.done():
                    await asyncio.sleep(LOOK_AGAIN_S)
                try:
                    yield
                finally:
                    server.should_exit = True
                    await task


def with_health(app: AsgiApp) -> AsgiApp:
    """Return the application, before which somebody says that it is up."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != HEALTH_PATH:
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"7")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"success"})

    return answer
