"""OpenAI's protocol over loopback: whatever a server answers is a reply, or a failure with its reason."""

from __future__ import annotations

import asyncio
import json
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from alpagasus_ray.llm.chat import EndpointError, Message, Reply, ReplyError, Request, Sampling
from alpagasus_ray.llm.openai_chat import OpenAIChat
from tests.loopback import Body, LoopbackServer, error

KEY = "sk-proj-verysecret0123456789"
PLEASE_SOON = {"retry-after-ms": "5"}
CHAT = Request((Message("system", "Be fair."), Message("user", "Grade this.")), "judge", Sampling(10))
RAW = Request((Message("user", "### Response:"),), "filtered", Sampling(10, stop=("###",)), raw_prompt=True)


class Dropped(web.Response):
    """Closes the connection instead of answering, or after a part of the answer."""

    part: bytes | None = None

    async def prepare(self, request: web.BaseRequest) -> Any:
        if self.part is not None:
            self.content_length = 10_000
            writer = await super().prepare(request)
            await writer.write(self.part)  # type: ignore[union-attr]
        assert request.transport is not None
        request.transport.close()
        raise ConnectionResetError


def dropped(part: bytes | None = None) -> web.Response:
    response = Dropped()
    response.part = part
    return response


def at_first(answer: Callable[[], web.StreamResponse], times: int = 1) -> Callable[[Body, int], Any]:
    return lambda body, before: answer() if before < times else None


def always(answer: Callable[[], web.StreamResponse]) -> Callable[[Body, int], Any]:
    return lambda body, before: answer()


def ask(
    base_url: str,
    request: Request = CHAT,
    api_key: str | None = KEY,
    timeout_s: float = 60.0,
    max_retries: int = 0,
) -> Reply:
    async def complete() -> Reply:
        chat = OpenAIChat(base_url, api_key, timeout_s, max_retries)
        assert KEY not in repr(chat) + str(vars(chat))
        try:
            return await chat.complete(request)
        finally:
            await chat.close()

    return asyncio.run(asyncio.wait_for(complete(), 120))


def failure(base_url: str, **how: Any) -> ReplyError | EndpointError:
    """Return what an ask raises; it must be one of ours, one line, and hold no key anywhere in its chain."""
    with pytest.raises((ReplyError, EndpointError)) as caught:
        ask(base_url, **how)
    assert "\n" not in str(caught.value)
    assert str(caught.value)
    assert "verysecret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return caught.value


def body_of(**changed: Any) -> Body:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4.5\nGood."}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "judge"}
    return {**body, "choices": [choice], "usage": usage, **changed}


# Good replies.


def test_a_reply_has_text_reason_and_usage(endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "4.5\nGood enough.\n"
    assert ask(endpoint.base_url) == Reply("4.5\nGood enough.\n", "stop", 2, 3)


def test_what_is_sent_is_the_request_and_nothing_else(endpoint: LoopbackServer) -> None:
    sent: list[Body] = []
    endpoint.reply = lambda body: sent.append(body) or "4"  # type: ignore[func-returns-value]
    ask(endpoint.base_url)
    assert sent == [
        {
            "messages": [
                {"role": "system", "content": "Be fair."},
                {"role": "user", "content": "Grade this."},
            ],
            "model": "judge",
            "max_tokens": 10,
            "temperature": 0.0,
            "top_p": 1.0,
        }
    ]


def test_a_raw_prompt_goes_to_the_completions_as_it_stands(endpoint: LoopbackServer) -> None:
    sent: list[Body] = []
    endpoint.reply = lambda body: sent.append(body) or " An apple."  # type: ignore[func-returns-value]
    assert ask(endpoint.base_url, RAW).text == " An apple."
    assert sent == [
        {
            "prompt": "### Response:",
            "model": "filtered",
            "max_tokens": 10,
            "temperature": 0.0,
            "top_p": 1.0,
            "stop": ["###"],
        }
    ]


@pytest.mark.parametrize(
    ("changed", "reply"),
    [
        ({"usage": None}, Reply("4.5\nGood.", "stop", 0, 0)),
        ({"usage": {}}, Reply("4.5\nGood.", "stop", 0, 0)),
        (
            {"usage": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}},
            Reply("4.5\nGood.", "stop", 0, 0),
        ),
        (
            {"choices": [{"index": 0, "finish_reason": None, "message": {"content": "4"}}]},
            Reply("4", "stop", 3, 2),
        ),
        ({"choices": [{"finish_reason": "length", "message": {"content": ""}}]}, Reply("", "length", 3, 2)),
        ({"novelty": {"a": 1}, "id": None}, Reply("4.5\nGood.", "stop", 3, 2)),
    ],
)
def test_a_server_that_leaves_things_out_is_understood(
    endpoint: LoopbackServer, changed: Body, reply: Reply
) -> None:
    endpoint.fault = always(lambda: web.json_response(body_of(**changed)))
    assert ask(endpoint.base_url) == reply


@pytest.mark.parametrize("api_key", [None, ""])
def test_a_server_of_ones_own_needs_no_key(endpoint: LoopbackServer, api_key: str | None) -> None:
    assert ask(endpoint.base_url, api_key=api_key).text


def test_the_key_is_what_the_server_wants(endpoint: LoopbackServer) -> None:
    endpoint.api_key = KEY
    assert ask(endpoint.base_url).text
    assert isinstance(failure(endpoint.base_url, api_key="another"), EndpointError)


# An endpoint that can answer nothing.


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "invalid_api_key"), (403, "forbidden"), (404, "model_not_found"), (429, "insufficient_quota")],
)
def test_what_ends_everything_is_told_in_the_endpoints_words(
    endpoint: LoopbackServer, status: int, code: str
) -> None:
    endpoint.fault = always(lambda: error(status, f"Its own words on {code}.", code, PLEASE_SOON))
    found = failure(endpoint.base_url, max_retries=1)
    assert isinstance(found, EndpointError)
    assert f"Its own words on {code}." in str(found)
    assert endpoint.base_url in str(found)


def test_an_unknown_model_is_named(endpoint: LoopbackServer) -> None:
    endpoint.models = ("another",)
    found = failure(endpoint.base_url)
    assert isinstance(found, EndpointError)
    assert "judge" in str(found)


def test_an_address_that_is_no_endpoint_is_named(endpoint: LoopbackServer) -> None:
    found = failure(f"{endpoint.base_url}/nowhere")
    assert isinstance(found, EndpointError)
    assert "nowhere" in str(found)


@pytest.mark.parametrize(
    "words",
    [f"Incorrect API key provided: {KEY}.", f"Bearer {KEY} is not known", f"no such key\n\n{KEY}"],
)
def test_a_key_that_the_endpoint_repeats_is_not_repeated_by_us(endpoint: LoopbackServer, words: str) -> None:
    endpoint.fault = always(lambda: error(401, words, "invalid_api_key"))
    assert isinstance(failure(endpoint.base_url), EndpointError)


@pytest.mark.parametrize("api_key", [f"{KEY}\n", f" {KEY}", f"{KEY}é", f"{KEY}\0", f"a\r\nb{KEY}"])
def test_a_key_that_cannot_be_sent_is_not_shown(endpoint: LoopbackServer, api_key: str) -> None:
    endpoint.api_key = KEY
    try:
        ask(endpoint.base_url, api_key=api_key)
    except (EndpointError, ReplyError) as found:
        assert "verysecret" not in "".join(traceback.format_exception(found))
    else:
        assert api_key.strip() == KEY, "only blanks around the key may be forgiven"


# Failures that pass.


@pytest.mark.parametrize(
    "answer",
    [
        lambda: error(429, "Slow down.", "rate_limit_exceeded", PLEASE_SOON),
        lambda: error(429, "Slow down.", "rate_limit_exceeded", {"Retry-After": "0.005"}),
        lambda: error(500, "Oops.", "internal", PLEASE_SOON),
        lambda: error(503, "Overloaded.", "overloaded", PLEASE_SOON),
        lambda: error(408, "Late.", "timeout", PLEASE_SOON),
    ],
)
def test_what_can_pass_is_tried_again(
    endpoint: LoopbackServer, answer: Callable[[], web.StreamResponse]
) -> None:
    endpoint.fault = at_first(answer, times=2)
    assert ask(endpoint.base_url, max_retries=3).text
    assert endpoint.asked.total() == 3


def test_a_dropped_connection_is_tried_again(endpoint: LoopbackServer) -> None:
    endpoint.fault = at_first(dropped)
    assert ask(endpoint.base_url, max_retries=2).text
    assert endpoint.asked.total() == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: error(429, "Slow down.", "rate_limit_exceeded", PLEASE_SOON), "rate limited"),
        (lambda: error(500, "Oops.", "internal", PLEASE_SOON), "server error"),
        (lambda: error(529, "Overloaded.", "overloaded", PLEASE_SOON), "server error"),
        (lambda: web.Response(status=502, text="<html>Bad gateway</html>"), "server error"),
        (lambda: error(400, "The context is too long.", "context_length_exceeded"), "refused request"),
        (lambda: error(422, "max_tokens?", "unprocessable"), "refused request"),
        (lambda: dropped(), "connection"),
        (lambda: dropped(b'{"id": "x", "choices": [{"mess'), "connection"),
    ],
)
def test_a_failure_has_its_kind(
    endpoint: LoopbackServer, answer: Callable[[], web.StreamResponse], kind: str
) -> None:
    endpoint.fault = always(answer)
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert found.kind == kind


def test_a_refused_request_is_told_in_the_endpoints_words(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(lambda: error(400, "The context is too long.", "context_length_exceeded"))
    assert "The context is too long." in str(failure(endpoint.base_url))
    assert endpoint.asked.total() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"id": "x", "choices": [{"mess',
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"error": {"message": "an error with status 200"}}',
        b"\xff\xfe",
        json.dumps(body_of(choices=[])).encode(),
        json.dumps(body_of(choices=None)).encode(),
        json.dumps(body_of(choices={})).encode(),
        json.dumps(body_of(choices=[None])).encode(),
        json.dumps(body_of(choices=[{}])).encode(),
        json.dumps(body_of(choices=[{"message": None}])).encode(),
        json.dumps(body_of(choices=[{"message": {}}])).encode(),
        json.dumps(body_of(choices=[{"message": {"content": None}}])).encode(),
        json.dumps(body_of(choices=[{"message": {"content": 4.5}}])).encode(),
        json.dumps(body_of(choices=[{"message": {"content": [{"type": "text", "text": "4"}]}}])).encode(),
    ],
)
@pytest.mark.parametrize("request_", [CHAT, RAW], ids=["chat", "raw"])
def test_a_body_that_is_no_reply_is_malformed(
    endpoint: LoopbackServer, body: bytes, request_: Request
) -> None:
    endpoint.fault = always(lambda: web.Response(body=body, content_type="application/json"))
    found = failure(endpoint.base_url, request=request_)
    assert isinstance(found, ReplyError)
    assert found.kind == "malformed reply"


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "text/plain"])
def test_a_web_page_is_no_reply(endpoint: LoopbackServer, content_type: str) -> None:
    endpoint.fault = always(
        lambda: web.Response(text="<html>Log in to the WiFi</html>", content_type=content_type)
    )
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert found.kind == "malformed reply"


def test_a_refusal_of_the_models_is_told(endpoint: LoopbackServer) -> None:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"content": None, "refusal": "I would rather not."},
    }
    endpoint.fault = always(lambda: web.json_response(body_of(choices=[choice])))
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert (found.kind, str(found)) == ("refused by the model", "I would rather not.")


def test_a_server_that_does_not_answer_in_time_is_given_up(endpoint: LoopbackServer) -> None:
    endpoint.latency_s = 2
    found = failure(endpoint.base_url, timeout_s=0.3)
    assert isinstance(found, ReplyError)
    assert found.kind == "timeout"


def test_nobody_at_the_address(endpoint: LoopbackServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        found = failure(url)
    assert isinstance(found, ReplyError)
    assert found.kind == "connection"
    assert url in str(found)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "http://", "http://[bad/v1", "http://127.0.0.1:99999/v1"],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    failure(url)


def test_long_words_are_cut_to_a_line(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(lambda: error(400, "many words\n\twithout end " * 500, "long"))
    assert len(str(failure(endpoint.base_url))) < 500


def test_many_ask_at_once_over_one_client(endpoint: LoopbackServer) -> None:
    endpoint.latency_s = 0.05
    endpoint.reply = lambda body: body["messages"][0]["content"]

    async def ask_all() -> list[str]:
        chat = OpenAIChat(endpoint.base_url, KEY, 60, 2)
        requests = [Request((Message("user", str(number)),), "judge", Sampling(5)) for number in range(100)]
        replies = await asyncio.gather(*map(chat.complete, requests))
        await chat.close()
        return [reply.text for reply in replies]

    assert asyncio.run(ask_all()) == [str(number) for number in range(100)]
    assert endpoint.max_in_flight > 50
