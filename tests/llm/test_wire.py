"""What the providers' clients share, measured on a real server: many at once, over few connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.llm.anthropic_chat import AnthropicChat
from alpagasus_ray.llm.chat import EndpointError, Message, ReplyError, Request, Sampling
from alpagasus_ray.llm.failures import writable
from alpagasus_ray.llm.openai_chat import OpenAIChat
from alpagasus_ray.llm.wire import json_object, token_count
from tests.loopback import LoopbackServer

CHATS: dict[str, Any] = {"openai": OpenAIChat, "anthropic": AnthropicChat}


def request(text: str) -> Request:
    return Request((Message("user", text),), "judge", Sampling(5))


@pytest.mark.parametrize("provider", CHATS)
def test_hundreds_are_in_flight_at_once_and_each_gets_its_own_reply(
    endpoint: LoopbackServer, provider: str
) -> None:
    endpoint.latency_s = 1.5
    endpoint.reply = lambda body: body["messages"][0]["content"]

    async def ask_all() -> list[str]:
        chat = CHATS[provider](endpoint.base_url, "key", 60)
        asked = (chat.complete(request(str(number))) for number in range(300))
        replies = await asyncio.gather(*asked)
        await chat.close()
        return [reply.text for reply in replies]

    assert asyncio.run(ask_all()) == [str(number) for number in range(300)]
    assert endpoint.max_in_flight > 256


@pytest.mark.parametrize("provider", CHATS)
def test_a_connection_serves_one_request_after_the_other(endpoint: LoopbackServer, provider: str) -> None:
    async def ask_all() -> None:
        chat = CHATS[provider](endpoint.base_url, "key", 60)

        async def ask(worker: int) -> None:
            for number in range(20):
                await chat.complete(request(f"{worker} {number}"))

        await asyncio.gather(*map(ask, range(5)))
        await chat.close()

    asyncio.run(ask_all())
    assert endpoint.answered.total() == 100
    assert len(endpoint.connections) == 5


def asked_through(middleware: Any, endpoint: LoopbackServer, provider: str, count: int) -> list[str]:
    """Return the replies to so many requests that each pass the middleware on their way."""

    async def ask() -> list[str]:
        runner = web.AppRunner(app := endpoint.app())
        app.middlewares.append(middleware)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        chat = CHATS[provider](f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "secret", 60)
        replies = [await chat.complete(request(str(number))) for number in range(count)]
        await chat.close()
        await runner.cleanup()
        return [reply.text for reply in replies]

    return asyncio.run(ask())


@pytest.mark.parametrize("provider", CHATS)
def test_a_compressed_answer_is_understood(endpoint: LoopbackServer, provider: str) -> None:
    @web.middleware
    async def compress(request: web.Request, handler: Any) -> Any:
        response = await handler(request)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    endpoint.reply = lambda body: "Fine, thank you. " * 100
    assert asked_through(compress, endpoint, provider, 1) == ["Fine, thank you. " * 100]


@pytest.mark.parametrize("provider", CHATS)
def test_every_request_has_the_headers_of_the_sdk(endpoint: LoopbackServer, provider: str) -> None:
    seen: list[dict[str, str]] = []
    bodies: list[bytes] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        bodies.append(await request.read())
        return await handler(request)

    endpoint.reply = lambda body: body["messages"][0]["content"]
    assert asked_through(note, endpoint, provider, 12) == [str(number) for number in range(12)]
    lengths = [int(headers.pop("content-length")) for headers in seen]
    assert lengths == [len(body) for body in bodies]
    assert seen == [seen[0]] * 12
    assert "secret" in seen[0]["authorization"]
    assert seen[0]["content-type"] == "application/json"
    assert provider != "anthropic" or seen[0]["anthropic-version"]


def asked(base_url: str, provider: str) -> str:
    """Return the reply to one request."""

    async def ask() -> str:
        chat = CHATS[provider](base_url, "secret", 20)
        try:
            return str((await chat.complete(request("Fine?"))).text)
        finally:
            await chat.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("provider", CHATS)
def test_requests_take_the_proxy_of_the_environment(
    endpoint: LoopbackServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", endpoint.base_url.removesuffix("/v1"))
    assert asked("http://a-judge.example/v1", provider)
    monkeypatch.setenv("no_proxy", "a-judge.example")
    with pytest.raises(ReplyError, match="cannot be reached"):
        asked("http://a-judge.example/v1", provider)


@pytest.mark.parametrize("provider", CHATS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_not_told_the_key(
    endpoint: LoopbackServer, provider: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []

    async def ask() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            told.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:hidden@{address}")
        chat = CHATS[provider](f"{scheme}://a-judge.example/v1", "secret", 20)
        try:
            with pytest.raises((ReplyError, EndpointError)) as caught:
                await chat.complete(request("Fine?"))
        finally:
            await chat.close()
            proxy.close()
        assert "hidden" not in str(caught.value)

    asyncio.run(ask())
    head = told[0].lower()
    assert b"proxy-authorization: basic " in head
    if scheme == "https":  # what is asked of the proxy itself, in the clear
        assert b"secret" not in head
        assert b"stainless" not in head
        assert not [line for line in head.split(b"\r\n") if line.startswith(b"authorization")]


@pytest.mark.parametrize("provider", CHATS)
def test_headers_of_ones_own_have_the_last_word(
    endpoint: LoopbackServer, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[tuple[str, str]]] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        seen.append([(name.lower(), value) for name, value in request.headers.items()])
        return await handler(request)

    own = "authorization: Basic abc\nuser-agent: mine\nx-mine: 1"
    monkeypatch.setenv(f"{provider.upper()}_CUSTOM_HEADERS", own)
    asked_through(note, endpoint, provider, 1)
    for name, value in (("authorization", "Basic abc"), ("user-agent", "mine"), ("x-mine", "1")):
        assert [said for named, said in seen[0] if named == name] == [value]


@pytest.mark.parametrize("provider", CHATS)
@pytest.mark.parametrize("status", [304, 308])
def test_an_answer_that_leads_nowhere_is_refused_at_once(
    endpoint: LoopbackServer, provider: str, status: int
) -> None:
    endpoint.fault = lambda body, before: web.Response(status=status)
    with pytest.raises(ReplyError) as caught:
        asked(endpoint.base_url, provider)
    assert (caught.value.kind, caught.value.may_be_billed) == ("refused request", False)


@pytest.mark.parametrize("provider", CHATS)
def test_an_endpoint_that_sends_requests_round_in_circles_is_none(
    endpoint: LoopbackServer, provider: str
) -> None:
    @web.middleware
    async def round_again(request: web.Request, handler: Any) -> Any:
        raise web.HTTPPermanentRedirect(request.path)

    with pytest.raises(EndpointError, match="sends every request on"):
        asked_through(round_again, endpoint, provider, 1)


@pytest.mark.parametrize("provider", CHATS)
def test_an_answer_that_cannot_be_unpacked_says_so(endpoint: LoopbackServer, provider: str) -> None:
    headers = {"content-encoding": "gzip"}
    endpoint.fault = lambda body, before: web.Response(body=b"no gzip", headers=headers)
    with pytest.raises(ReplyError, match=r"answers what cannot be read: .*gzip"):
        asked(endpoint.base_url, provider)


@pytest.mark.parametrize("provider", CHATS)
def test_a_request_follows_where_the_endpoint_has_moved(endpoint: LoopbackServer, provider: str) -> None:
    @web.middleware
    async def moved(request: web.Request, handler: Any) -> Any:
        if request.query.get("new"):
            return await handler(request)
        raise web.HTTPPermanentRedirect(f"{request.path}?new=1")

    endpoint.reply = lambda body: body["messages"][0]["content"]
    assert asked_through(moved, endpoint, provider, 2) == ["0", "1"]


@pytest.mark.parametrize("provider", CHATS)
def test_a_certificate_of_ones_own_is_trusted_where_the_environment_names_it(
    endpoint: LoopbackServer, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(own)

    async def ask() -> str:
        runner = web.AppRunner(endpoint.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving)
        await site.start()
        chat = CHATS[provider](f"https://127.0.0.1:{runner.addresses[0][1]}/v1", "secret", 20)
        try:
            return str((await chat.complete(request("Fine?"))).text)
        finally:
            await chat.close()
            await runner.cleanup()

    with pytest.raises(EndpointError, match=r"not trusted .*certificate verify failed.* in SSL_CERT_FILE"):
        asyncio.run(ask())
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert asyncio.run(ask())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(EndpointError, match="SSL_CERT_FILE"):
        asyncio.run(ask())


def own_certificate(folder: Path) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1, signed with itself."""
    file = folder / "own.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", file, "-out", file]
    command += ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return file


@given(st.binary())
def test_a_body_is_an_object_or_malformed(content: bytes) -> None:
    try:
        assert isinstance(json_object(content), dict)
    except ReplyError as error:
        assert (error.kind, error.may_be_billed) == ("malformed reply", True)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_body_that_python_cannot_hold_is_malformed(content: bytes) -> None:
    with pytest.raises(ReplyError) as caught:
        json_object(content)
    assert caught.value.kind == "malformed reply"


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_an_object_is_read_as_it_stands(value: dict[str, Any]) -> None:
    assert json_object(json.dumps(value).encode()) == value


@given(st.text(alphabet=st.characters()))
def test_a_text_can_be_written_to_a_file(text: str) -> None:
    assert writable(text + "\ud83d").encode()
    if text.encode("utf-8", "ignore").decode() == text:
        assert writable(text) == text


@pytest.mark.parametrize(
    ("usage", "count"),
    [({"n": 7}, 7), ({}, 0), (None, 0), ([], 0), ({"n": -1}, 0), ({"n": 1 << 40}, 0), ({"n": "7"}, 0)],
)
def test_a_count_that_makes_no_sense_is_nothing(usage: object, count: int) -> None:
    assert token_count(usage, "n") == count
