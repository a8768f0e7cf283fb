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

from alpagasus_ray.llm.chat import EndpointError, Message, RateLimits, Reply, ReplyError, Request, Sampling
from alpagasus_ray.llm.openai_chat import OpenAIChat
from tests.loopback import Body, LoopbackServer, error
from tests.loopback_faults import dropped
from tests.loopback_limits import Limits

KEY = "sk-proj-verysecret0123456789"
CHAT = Request((Message("system", "Be fair."), Message("user", "Grade this.")), "judge", Sampling(10))
RAW = Request((Message("user", "### Response:"),), "filtered", Sampling(10, stop=("###",)), raw_prompt=True)


def always(answer: Callable[[], web.StreamResponse]) -> Callable[[Body, int], Any]:
    return lambda body, before: answer()


def ask(
    base_url: str,
    request: Request = CHAT,
    api_key: str | None = KEY,
    timeout_s: float = 60.0,
    told: list[RateLimits] | None = None,
) -> Reply:
    async def complete() -> Reply:
        chat = OpenAIChat(base_url, api_key, timeout_s)
        chat.on_limits = (told if told is not None else []).append
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


def wrong_setting(param: str, code: str, words: str) -> web.Response:
    """Return OpenAI's answer to a setting that the model does not take."""
    body = {"message": words, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": body}, status=400)


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
        ({"choices": [{"finish_reason": "length", "message": {"content": None}}]}, Reply("", "length", 3, 2)),
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
    endpoint.fault = always(lambda: error(status, f"Its own words on {code}.", code))
    found = failure(endpoint.base_url)
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


def test_a_setting_that_a_model_does_not_take_is_named_with_its_remedy(endpoint: LoopbackServer) -> None:
    words = "Unsupported value: 'temperature' does not support 0 with this model."
    endpoint.fault = always(lambda: wrong_setting("temperature", "unsupported_value", words))
    found = failure(endpoint.base_url)
    assert isinstance(found, EndpointError)
    assert "set temperature to null in the recipe's section of this judge" in str(found)
    assert words in str(found)


def test_top_p_that_a_model_does_not_take_is_named(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(lambda: wrong_setting("top_p", "unsupported_parameter", "Unsupported parameter."))
    found = failure(endpoint.base_url)
    assert isinstance(found, EndpointError)
    assert "set top_p to null" in str(found)


def test_what_is_null_is_not_sent(endpoint: LoopbackServer) -> None:
    sent: list[Body] = []
    endpoint.reply = lambda body: sent.append(body) or "4"  # type: ignore[func-returns-value]
    ask(endpoint.base_url, Request(CHAT.messages, "judge", Sampling(10, temperature=None, top_p=None)))
    assert {"temperature", "top_p"} & set(sent[0]) == set()


def test_a_model_that_wants_max_completion_tokens_gets_them_from_then_on(endpoint: LoopbackServer) -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model."
    bodies: list[Body] = []

    def refuse(body: Body, times: int) -> web.StreamResponse | None:
        bodies.append(body)
        return wrong_setting("max_tokens", "unsupported_parameter", words) if "max_tokens" in body else None

    async def ask_twice() -> None:
        chat = OpenAIChat(endpoint.base_url, KEY, 60)
        for _ in range(2):
            assert (await chat.complete(CHAT)).text
        await chat.close()

    endpoint.fault = refuse
    asyncio.run(ask_twice())
    assert [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in bodies] == [
        (10, None),
        (None, 10),
        (None, 10),
    ]


def test_a_model_that_takes_neither_is_told_and_not_asked_for_ever(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(lambda: wrong_setting("max_tokens", "unsupported_parameter", "Neither of them."))
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert (found.kind, "Neither of them." in str(found)) == ("refused request", True)
    assert endpoint.asked.total() == 2


# Failures of one request.


@pytest.mark.parametrize(
    ("answer", "kind", "may_be_billed"),
    [
        (lambda: error(429, "Slow down.", "rate_limit_exceeded"), "rate limited", False),
        (
            lambda: error(429, "Request too large for gpt-4 on tokens per min (TPM)", "tokens"),
            "too long",
            False,
        ),
        (lambda: error(500, "Oops.", "internal"), "server error", False),
        (lambda: error(503, "Not now.", "unavailable"), "server error", False),
        (lambda: error(529, "Overloaded.", "overloaded"), "rate limited", False),
        (lambda: web.Response(status=502, text="<html>Bad gateway</html>"), "server error", False),
        (lambda: error(408, "Late.", "timeout"), "timeout", False),
        (lambda: error(409, "Locked.", "conflict"), "server error", False),
        (lambda: error(400, "The context is too long.", "context_length_exceeded"), "too long", False),
        (lambda: error(400, "This model's maximum context length is 9 tokens.", "400"), "too long", False),
        (lambda: error(400, "No.", "content_filter"), "refused by the model", False),
        (lambda: error(400, "Something else.", "invalid_value"), "refused request", False),
        (lambda: error(413, "Too much.", "too_large"), "refused request", False),
        (lambda: error(422, "max_tokens?", "unprocessable"), "refused request", False),
        (lambda: dropped(), "connection", True),
        (lambda: dropped(b'{"id": "x", "choices": [{"mess'), "connection", True),
        (lambda: web.Response(text="{"), "malformed reply", True),
    ],
)
def test_a_failure_has_its_kind_and_says_whether_it_may_be_billed(
    endpoint: LoopbackServer, answer: Callable[[], web.StreamResponse], kind: str, may_be_billed: bool
) -> None:
    endpoint.fault = always(answer)
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == (kind, may_be_billed)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_a_request_is_sent_once_whatever_the_answer(endpoint: LoopbackServer, status: int) -> None:
    endpoint.fault = always(lambda: error(status, "Not now.", "later", {"Retry-After": "0.001"}))
    failure(endpoint.base_url)
    assert endpoint.asked.total() == 1


def test_a_request_whose_connection_broke_is_sent_once(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(dropped)
    failure(endpoint.base_url)
    assert endpoint.asked.total() == 1


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "999999999"}, 3600.0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_an_error_tells_how_long_the_endpoint_asks_to_wait(
    endpoint: LoopbackServer, status: int, headers: dict[str, str], wait_s: float | None
) -> None:
    endpoint.fault = always(lambda: error(status, "Not now.", "later", headers))
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert found.retry_after_s == wait_s


# Limits.


def test_every_response_with_limits_tells_them(endpoint: LoopbackServer) -> None:
    endpoint.limits = Limits(requests_per_minute=120, tokens_per_minute=60_000, window_s=1)
    told: list[RateLimits] = []
    ask(endpoint.base_url, told=told)
    assert len(told) == 1
    assert (told[0].requests_per_minute, told[0].tokens_per_minute) == (120, 60_000)
    assert told[0].requests_left == 1
    assert 990 <= (told[0].tokens_left or 0) < 1000, "the bucket fills up meanwhile"
    assert told[0].requests_reset_s == pytest.approx(0.5, abs=0.3)


def test_an_error_tells_the_limits_too(endpoint: LoopbackServer) -> None:
    endpoint.limits = Limits(requests_per_minute=60, window_s=1)
    told: list[RateLimits] = []
    ask(endpoint.base_url, told=told)
    with pytest.raises(ReplyError) as caught:
        ask(endpoint.base_url, told=told)
    assert caught.value.kind == "rate limited"
    assert 0 < (caught.value.retry_after_s or 0) <= 1
    assert [one.requests_left for one in told] == [0, 0]
    assert endpoint.limits.rate_limited == 1


def test_a_server_that_says_nothing_of_limits_tells_none(endpoint: LoopbackServer) -> None:
    told: list[RateLimits] = []
    ask(endpoint.base_url, told=told)
    assert told == []


# What is no reply.


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


def test_an_error_with_status_200_is_told_in_its_words(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(
        lambda: web.json_response({"error": {"message": f"No provider, {KEY}", "code": 502}})
    )
    assert "No provider, ***" in str(failure(endpoint.base_url))


def test_a_reply_that_the_content_filter_stopped_is_a_refusal(endpoint: LoopbackServer) -> None:
    choice = {"finish_reason": "content_filter", "message": {"content": "4.5 but"}}
    endpoint.fault = always(lambda: web.json_response(body_of(choices=[choice])))
    found = ask(endpoint.base_url)
    assert (found.text, found.refusal) == ("4.5 but", "the provider's content filter stopped the reply")


def test_a_refusal_of_the_models_is_told(endpoint: LoopbackServer) -> None:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"content": None, "refusal": "I would rather not."},
    }
    endpoint.fault = always(lambda: web.json_response(body_of(choices=[choice])))
    found = ask(endpoint.base_url)
    assert (found.finish_reason, found.refusal) == ("refusal", "I would rather not.")


def test_a_server_that_does_not_answer_in_time_is_given_up(endpoint: LoopbackServer) -> None:
    endpoint.latency_s = 2
    found = failure(endpoint.base_url, timeout_s=0.3)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("timeout", True)


def test_a_server_that_keeps_the_line_busy_does_not_answer_in_time_either(endpoint: LoopbackServer) -> None:
    """Blanks keep a connection alive for ever; the time limit is one of the whole reply."""

    class Blanks(web.StreamResponse):
        async def prepare(self, request: web.BaseRequest) -> Any:
            writer = await super().prepare(request)
            for _ in range(40):
                await self.write(b" ")
                await asyncio.sleep(0.05)
            return writer

    endpoint.fault = always(Blanks)
    found = failure(endpoint.base_url, timeout_s=0.5)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("timeout", True)


def test_a_server_that_does_not_take_the_connection_in_time_is_paid_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # they fill the queue
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            found = failure(f"http://127.0.0.1:{address[1]}/v1", timeout_s=0.6)
        finally:
            for one in waiting:
                one.close()
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("timeout", False)


def test_nobody_at_the_address(endpoint: LoopbackServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        found = failure(url)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("connection", False)
    assert url in str(found)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000/v1", "ftp://127.0.0.1/v1", "http://", "http://[bad/v1", "http://127.0.0.1:99999/v1"],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    found = failure(url)
    assert url in str(found)
    assert isinstance(found, EndpointError) or not found.may_be_billed


def test_long_words_are_cut_to_a_line(endpoint: LoopbackServer) -> None:
    endpoint.fault = always(lambda: error(400, "many words\n\twithout end " * 500, "long"))
    assert len(str(failure(endpoint.base_url))) < 500
