"""Nobody enters uninvited: a real HTTP client in front of the guard and a FastAPI application behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import StreamingResponse

from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.guard import Admission, AsgiApp, Guard, KeyDigest

KEY = "sk-a-key-of-the-owner"


def application(release: asyncio.Event | None = None) -> FastAPI:
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict[str, int]:
        body = await request.json()
        if release is not None:
            await release.wait()
        return {"characters": len(body["prompt"])}

    @app.post("/v1/stream")
    async def stream() -> StreamingResponse:
        async def tokens() -> AsyncIterator[str]:
            yield "one "
            if release is not None:
                await release.wait()
            yield "two"

        return StreamingResponse(tokens())

    return app


def ask(app: AsgiApp, talk: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def run() -> Any:
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await talk(client)

    return asyncio.run(run())


def post(admission: Admission, prompt: str = "Hi", **options: Any) -> httpx.Response:
    answer = ask(
        Guard(application(), admission),
        lambda client: client.post("/v1/completions", json={"prompt": prompt}, **options),
    )
    assert isinstance(answer, httpx.Response)
    return answer


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"X-Api-Key": KEY},
    ],
)
def test_without_the_key_nobody_is_let_in(headers: dict[str, str]) -> None:
    answer = post(Admission(KeyDigest.of(KEY)), headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key" and KEY not in answer.text
    assert ("Incorrect API key" in answer.text) == ("Authorization" in headers)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_one_is(scheme: str) -> None:
    answer = post(Admission(KeyDigest.of(KEY)), headers={"Authorization": f"{scheme} {KEY}"})
    assert answer.json() == {"characters": 2}


def test_where_no_key_is_wanted_everybody_is() -> None:
    assert post(Admission()).status_code == 200


@given(st.text(min_size=1), st.text())
def test_a_digest_is_of_its_own_key_alone_and_does_not_show_it(key: str, other: str) -> None:
    digest = KeyDigest.of(key)
    assert digest.is_of(key.encode()) and digest.is_of(other.encode()) == (key == other)
    assert digest != KeyDigest.of(key), "two deployments of one key do not show that it is one"


def test_a_long_body_is_refused_whether_or_not_its_length_is_announced() -> None:
    small = Admission(max_body_bytes=1000)
    announced = post(small, "a" * 2000)
    assert announced.status_code == 413 and announced.json()["error"]["code"] == "request_too_large"

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    chunked = ask(
        Guard(application(), small), lambda client: client.post("/v1/completions", content=in_pieces())
    )
    assert chunked.status_code == 413 and chunked.json() == announced.json()
    assert post(small, "a" * 900).status_code == 200


def test_so_many_at_once_and_the_next_is_told_when_to_come_again() -> None:
    async def talk() -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        release = asyncio.Event()
        guard = Guard(application(release), Admission(max_in_flight=2))
        transport = httpx.ASGITransport(app=guard)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            body = {"prompt": "Hi"}
            waiting = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in range(2)]
            await asyncio.sleep(0.05)
            refused = await client.post("/v1/completions", json=body)
            release.set()
            answered = [await task for task in waiting]
            return answered, refused, await client.post("/v1/completions", json=body)

    answered, refused, later = asyncio.run(talk())
    assert [one.status_code for one in answered] == [200, 200] and later.status_code == 200
    assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_a_stream_counts_until_it_has_ended() -> None:
    async def talk() -> list[int]:
        release = asyncio.Event()
        guard = Guard(application(release), Admission(max_in_flight=1))
        transport = httpx.ASGITransport(app=guard)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            stream = asyncio.create_task(client.post("/v1/stream"))
            await asyncio.sleep(0.05)
            during = await client.post("/v1/stream")
            release.set()
            first, after = await stream, await client.post("/v1/stream")
            assert first.text == "one two"
            return [during.status_code, first.status_code, after.status_code]

    assert asyncio.run(talk()) == [429, 200, 200]


def test_a_failure_behind_the_guard_frees_its_place() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the engine is gone")

    guard = Guard(broken, Admission(max_in_flight=1))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="engine"):
            ask(guard, lambda client: client.get("/v1/models"))


def test_a_web_socket_does_not_get_around_the_key() -> None:
    asked: list[str] = []
    sent: list[tuple[str, int]] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append((message["type"], message["code"]))

    async def connect() -> None:
        nothing: Any = None
        await Guard(behind, Admission())({"type": "websocket", "headers": []}, nothing, send)
        await Guard(behind, Admission())({"type": "lifespan"}, nothing, nothing)

    asyncio.run(connect())
    assert asked == ["lifespan"]
    assert sent == [("websocket.close", 1008)], "a server makes a 403 of it, and a 500 of silence"


def test_an_absurd_length_is_too_long_and_no_failure() -> None:
    assert post(Admission(), headers={"Content-Length": "9" * 5000}).status_code == 413


def test_refusals_are_read_by_openais_client() -> None:
    import openai

    async def talk() -> list[int]:
        transport = httpx.ASGITransport(app=Guard(application(), Admission(KeyDigest.of(KEY), 100)))  # type: ignore[arg-type]
        seen = []
        for key, prompt in (("wrong", "Hi"), (KEY, "a" * 200)):
            async with openai.AsyncOpenAI(
                api_key=key,
                base_url="http://here/v1",
                max_retries=0,
                http_client=httpx.AsyncClient(transport=transport),
            ) as client:
                with pytest.raises(openai.APIStatusError) as error:
                    await client.completions.create(model="m", prompt=prompt)
                assert error.value.body and "message" in json.dumps(error.value.body)
                seen.append(error.value.status_code)
        return seen

    assert asyncio.run(talk()) == [401, 413]


def test_whom_the_settings_let_in() -> None:
    settings = ServeSettings(max_body_mib=0.5, max_requests_in_flight=3)
    assert Admission.of(settings, None) == Admission(None, 2**19, 3)
    admission = Admission.of(settings, KEY)
    assert admission.key is not None and admission.key.is_of(KEY.encode())
    assert KEY not in repr(admission)
