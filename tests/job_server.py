"""A job server with one job, speaking the protocol of Ray's, and a link to it that can be cut."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from aiohttp import web

JOB = "alpagasus-grade-mine-1"
POLL_S = 0.01


@dataclass
class Job:
    """What the server says of it; a test changes it."""

    log: str = ""
    status: str = "RUNNING"
    tails: int = 0
    """How often its log was asked for, to be followed."""
    is_cut: bool = False
    """Whether nothing comes through any more, on old links and new ones: they are not closed."""
    old_links_are_cut: bool = False
    """Whether nothing comes through links that are there; new ones are made, and work."""
    asked: list[str] = field(default_factory=list)


@contextmanager
def job_server(job: Job) -> Iterator[str]:
    """Serve the job; yield the address at the other end of the link."""
    started, ends, ports = threading.Event(), asyncio.Event(), []

    async def serve() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(_application(job))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        link = await asyncio.start_server(lambda *ends: _forward(job, port, *ends), "127.0.0.1", 0)
        ports.append(link.sockets[0].getsockname()[1])
        started.set()
        await ends.wait()

    loop: asyncio.AbstractEventLoop | None = None
    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert started.wait(30) and loop is not None
    try:
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(30)


def _application(job: Job) -> web.Application:
    def answer(what: Any) -> Any:
        async def say(request: web.Request) -> web.Response:
            job.asked.append(request.path)
            return web.Response(text=json.dumps(what()), content_type="application/json")

        return say

    async def tail(request: web.Request) -> web.WebSocketResponse:
        job.tails += 1
        sent, socket = 0, web.WebSocketResponse()
        await socket.prepare(request)
        while job.status == "RUNNING" or sent < len(job.log):
            if new := job.log[sent:]:
                await socket.send_str(new)
                sent += len(new)
            await asyncio.sleep(POLL_S)
        await socket.close()
        return socket

    about = {"type": "SUBMISSION", "submission_id": JOB, "entrypoint": "python"}
    application = web.Application()
    application.router.add_get(
        "/api/version", answer(lambda: {"version": "4", "ray_version": ray.__version__})
    )
    application.router.add_get(f"/api/jobs/{JOB}", answer(lambda: {**about, "status": job.status}))
    application.router.add_get(f"/api/jobs/{JOB}/logs", answer(lambda: {"logs": job.log}))
    application.router.add_get(f"/api/jobs/{JOB}/logs/tail", tail)
    return application


async def _forward(job: Job, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    is_new = job.old_links_are_cut
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            while job.is_cut or (job.old_links_are_cut and not is_new):
                await asyncio.sleep(POLL_S)
            target.write(data)
            await target.drain()
        target.close()

    await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)
