"""The ingress's own HTTP server: a real one, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import cloudpickle
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from alpagasus_ray.serve.guard import Admission, Guard, KeyDigest
from alpagasus_ray.serve.listening import HEALTH_PATH, Listening
from alpagasus_ray.serve.ports import listening_socket


@contextlib.asynccontextmanager
async def noting(app: FastAPI) -> AsyncIterator[None]:
    app.state.steps = ["began"]
    yield
    app.state.steps.append("ended")


def free_port(host: str = "127.0.0.1") -> int:
    with listening_socket(host, 0) as listener:
        return int(listener.getsockname()[1])


def application(port: int, host: str = "127.0.0.1") -> FastAPI:
    app = FastAPI(lifespan=Listening(noting, host, port))
    app.add_middleware(Guard, admission=Admission(key=KeyDigest.of("secret")))

    @app.post("/v1/echo")
    async def echo(request: Request) -> Any:
        return await request.json()

    @app.get("/v1/parts")
    async def parts() -> StreamingResponse:
        async def made() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d\n" % number
                await asyncio.sleep(0.1)

        return StreamingResponse(made())

    return app


async def running(app: FastAPI, ask: Any) -> Any:
    """Return what asking the application says, within its lifespan."""
    headers = {"Authorization": "Bearer secret"}
    async with app.router.lifespan_context(app), aiohttp.ClientSession(headers=headers) as session:
        return await ask(session)


def test_requests_are_answered_behind_the_guard_while_it_lives() -> None:
    port = free_port()
    app = application(port)
    address = f"http://127.0.0.1:{port}"

    async def ask(session: aiohttp.ClientSession) -> list[Any]:
        async with session.post(f"{address}/v1/echo", json={"a": "ä"}) as response:
            said = await response.json()
        async with session.post(f"{address}/v1/echo", json={}, headers={"Authorization": "Bearer no"}) as no:
            return [said, no.status]

    assert asyncio.run(running(app, ask)) == [{"a": "ä"}, 401]
    assert app.state.steps == ["began", "ended"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_stream_comes_part_by_part() -> None:
    port = free_port()

    async def ask(session: aiohttp.ClientSession) -> list[tuple[bytes, float]]:
        loop = asyncio.get_running_loop()
        async with session.get(f"http://127.0.0.1:{port}/v1/parts") as response:
            return [(part, loop.time()) async for part in response.content]

    came = asyncio.run(running(application(port), ask))
    assert [part for part, _ in came] == [b"0\n", b"1\n", b"2\n"]
    assert came[-1][1] - came[0][1] > 0.15


def test_load_balancers_need_no_key_to_see_that_it_is_up() -> None:
    port = free_port()

    async def ask(session: aiohttp.ClientSession) -> tuple[int, str]:
        async with session.get(
            f"http://127.0.0.1:{port}{HEALTH_PATH}", headers={"Authorization": ""}
        ) as response:
            return response.status, await response.text()

    assert asyncio.run(running(application(port), ask)) == (200, "success")


def test_it_listens_where_it_is_told_and_nowhere_else() -> None:
    port = free_port()

    async def ask(session: aiohttp.ClientSession) -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=1)
        socket.create_connection(("127.0.0.1", port), timeout=1).close()

    asyncio.run(running(application(port), ask))


def test_no_host_is_every_address() -> None:
    with listening_socket("", 0) as listener:
        socket.create_connection(("127.0.0.2", listener.getsockname()[1]), timeout=1).close()


def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with listening_socket("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        asyncio.run(running(application(taken.getsockname()[1]), lambda session: None))


def test_it_ends_soon_though_somebody_is_connected_and_can_begin_again() -> None:
    port = free_port()
    idle: list[socket.socket] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        idle.append(socket.create_connection(("127.0.0.1", port), timeout=1))

    async def twice() -> float:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        for _ in range(2):
            await running(application(port), ask)
        return loop.time() - started_s

    assert asyncio.run(twice()) < 8
    for one in idle:
        one.close()


def test_it_travels_to_another_process() -> None:
    port = free_port()
    listening = cloudpickle.loads(cloudpickle.dumps(Listening(noting, "127.0.0.1", port)))
    assert (listening.host, listening.port) == ("127.0.0.1", port)
