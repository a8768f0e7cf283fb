"""Anthropic's protocol over loopback: whatever a server answers is a reply, or a failure with its reason."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from alpagasus_ray.llm.anthropic_chat import AnthropicChat
from alpagasus_ray.llm.chat import EndpointError, Message, RateLimits, Reply, ReplyError, Request, Sampling
from tests.loopback import Body, LoopbackServer
from tests.loopback_faults import dropped
from tests.loopback_limits import Limits
from tests.loopback_protocols import MESSAGES, anthropic_error

KEY = "sk-ant-verysecret0123456789"
ASKED = (Message("system", "Be fair."), Message("user", "Grade this."))
GRADE = Request(ASKED, "claude", Sampling(10))


def ask(
    base_url: str,
    request: Request = GRADE,
    api_key: str | None = KEY,
    timeout_s: float = 60.0,
    told: list[RateLimits] | None = None,
) -> Reply:
    async def complete() -> Reply:
        chat = AnthropicChat(base_url, api_key, timeout_s)
        assert KEY not in repr(chat) + str(vars(chat))
        chat.on_limits = (told if told is not None else []).append
        try:
            return await chat.complete(request)
        finally:
            await chat.close()

    return asyncio.run(asyncio.wait_for(complete(), 120))


def failure(base_url: str, **how: Any) -> ReplyError | EndpointError:
    """Return what an ask raises; it must be one of ours, one line, and hold no key anywhere in its chain."""
    with pytest.raises((ReplyError, EndpointError)) as caught:
        ask(base_url, **how)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert "verysecret" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return caught.value


def always(answer: Callable[[], web.StreamResponse]) -> Callable[[Body, int], Any]:
    return lambda body, before: answer()


def message_of(**changed: Any) -> web.Response:
    body: Body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "4.5\nGood."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    return web.json_response({**body, **changed})


def sent_by(endpoint: LoopbackServer, request: Request) -> Body:
    bodies: list[Body] = []
    endpoint.reply = lambda body: bodies.append(body) or "4"  # type: ignore[func-returns-value]
    ask(endpoint.base_url, request)
    return bodies[0]


# Good replies.


def test_a_reply_has_text_reason_and_usage(endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "4.5\nGood enough."
    assert ask(endpoint.base_url) == Reply("4.5\nGood enough.", "stop", 2, 3)
    assert endpoint.usage == {MESSAGES: {"prompt_tokens": 2, "completion_tokens": 3}}


def test_what_is_sent_is_the_request_and_nothing_else(endpoint: LoopbackServer) -> None:
    assert sent_by(endpoint, GRADE) == {
        "model": "claude",
        "max_tokens": 10,
        "system": "Be fair.",
        "messages": [{"role": "user", "content": "Grade this."}],
        "temperature": 0.0,
    }


def test_what_is_null_is_not_sent(endpoint: LoopbackServer) -> None:
    sampling = Sampling(10, temperature=None, top_p=None)
    assert {"temperature", "top_p"} & set(sent_by(endpoint, Request(ASKED, "claude", sampling))) == set()


def test_a_top_p_that_changes_something_is_sent(endpoint: LoopbackServer) -> None:
    sampling = Sampling(10, temperature=None, top_p=0.9, stop=("###",))
    body = sent_by(endpoint, Request(ASKED[1:], "claude", sampling))
    assert (body["top_p"], body["stop_sequences"]) == (0.9, ["###"])
    assert {"system", "temperature"} & set(body) == set()


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/", "/"])
def test_the_address_may_end_as_openais_do_or_not(endpoint: LoopbackServer, suffix: str) -> None:
    assert ask(endpoint.base_url.removesuffix("/v1") + suffix).text


@pytest.mark.parametrize(
    ("changed", "reply"),
    [
        ({"stop_reason": "stop_sequence"}, Reply("4.5\nGood.", "stop", 3, 2)),
        ({"stop_reason": "max_tokens"}, Reply("4.5\nGood.", "length", 3, 2)),
        ({"stop_reason": "model_context_window_exceeded"}, Reply("4.5\nGood.", "length", 3, 2)),
        ({"stop_reason": "max_tokens", "content": []}, Reply("", "length", 3, 2)),
        ({"stop_reason": None}, Reply("4.5\nGood.", "stop", 3, 2)),
        ({"stop_reason": "pause_turn"}, Reply("4.5\nGood.", "pause_turn", 3, 2)),
        ({"content": []}, Reply("", "stop", 3, 2)),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "4"},
                    {"type": "text", "text": ".5"},
                    "garbage",
                    {"type": "text"},
                ]
            },
            Reply("4.5", "stop", 3, 2),
        ),
        (
            {
                "usage": {
                    "input_tokens": 3,
                    "cache_creation_input_tokens": 40,
                    "cache_read_input_tokens": 500,
                    "output_tokens": 2,
                }
            },
            Reply("4.5\nGood.", "stop", 543, 2),
        ),
        ({"usage": None}, Reply("4.5\nGood.", "stop", 0, 0)),
        ({"usage": {"input_tokens": None, "cache_read_input_tokens": -1}}, Reply("4.5\nGood.", "stop", 0, 0)),
    ],
)
def test_an_answer_is_understood(endpoint: LoopbackServer, changed: Body, reply: Reply) -> None:
    endpoint.fault = always(lambda: message_of(**changed))
    assert ask(endpoint.base_url) == reply


def test_the_key_is_what_the_server_wants(endpoint: LoopbackServer) -> None:
    endpoint.api_key = KEY
    assert ask(endpoint.base_url).text
    assert isinstance(failure(endpoint.base_url, api_key="another"), EndpointError)


@pytest.mark.parametrize("api_key", [None, ""])
def test_no_key_of_the_surroundings_is_sent_to_a_server_of_ones_own(
    endpoint: LoopbackServer, api_key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    endpoint.api_key = KEY
    assert isinstance(failure(endpoint.base_url, api_key=api_key), EndpointError)


# An endpoint that can answer nothing.


@pytest.mark.parametrize(
    ("status", "type"),
    [
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
    ],
)
def test_what_ends_everything_is_told_in_the_endpoints_words(
    endpoint: LoopbackServer, status: int, type: str
) -> None:
    endpoint.fault = always(lambda: anthropic_error(status, f"Its own words, {KEY}.", type))
    found = failure(endpoint.base_url)
    assert isinstance(found, EndpointError)
    assert "Its own words, ***." in str(found)
    assert endpoint.base_url in str(found)


def test_a_setting_that_the_model_does_not_take_is_named_with_its_remedy(endpoint: LoopbackServer) -> None:
    words = "`temperature` is deprecated for this model."
    endpoint.fault = always(lambda: anthropic_error(400, words, "invalid_request_error"))
    found = failure(endpoint.base_url)
    assert isinstance(found, EndpointError)
    assert "set temperature to null in the recipe's section of this judge" in str(found)


def test_raw_prompts_are_not_of_this_protocol(endpoint: LoopbackServer) -> None:
    raw = Request((Message("user", "### Response:"),), "claude", Sampling(10), raw_prompt=True)
    assert isinstance(failure(endpoint.base_url, request=raw), EndpointError)
    assert endpoint.asked.total() == 0


@pytest.mark.parametrize("api_key", [f"{KEY}\u00e9", f"{KEY}\0", f"a\r\nb{KEY}"])
def test_a_key_that_cannot_be_sent_is_not_shown(endpoint: LoopbackServer, api_key: str) -> None:
    assert isinstance(failure(endpoint.base_url, api_key=api_key), EndpointError)


# Failures of one request.


@pytest.mark.parametrize(
    ("answer", "kind", "may_be_billed"),
    [
        (lambda: anthropic_error(429, "Slow down.", "rate_limit_error"), "rate limited", False),
        (lambda: anthropic_error(529, "Overloaded.", "overloaded_error"), "rate limited", False),
        (lambda: anthropic_error(500, "Oops.", "api_error"), "server error", False),
        (lambda: anthropic_error(504, "Late.", "timeout_error"), "server error", False),
        (
            lambda: anthropic_error(
                400, "prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"
            ),
            "too long",
            False,
        ),
        (
            lambda: anthropic_error(400, "messages: at least one", "invalid_request_error"),
            "refused request",
            False,
        ),
        (lambda: anthropic_error(413, "Too large.", "request_too_large"), "refused request", False),
        (lambda: message_of(content=None), "malformed reply", True),
        (lambda: web.Response(text="<html>Log in</html>"), "malformed reply", True),
        (lambda: web.json_response([]), "malformed reply", True),
        (lambda: dropped(), "connection", True),
        (lambda: dropped(b'{"type": "mess'), "connection", True),
    ],
)
def test_a_failure_has_its_kind_and_says_whether_it_may_be_billed(
    endpoint: LoopbackServer, answer: Callable[[], web.StreamResponse], kind: str, may_be_billed: bool
) -> None:
    endpoint.fault = always(answer)
    found = failure(endpoint.base_url)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == (kind, may_be_billed)
    assert endpoint.asked.total() == 1, "who asks decides about trying again"


@pytest.mark.parametrize(
    ("content", "words"),
    [([], "without a word"), ([{"type": "text", "text": "I would\nrather not."}], "I would rather not.")],
)
def test_a_refusal_is_a_paid_reply(
    endpoint: LoopbackServer, content: list[dict[str, str]], words: str
) -> None:
    endpoint.fault = always(lambda: message_of(stop_reason="refusal", content=content))
    assert ask(endpoint.base_url).refusal == words


def test_a_server_that_does_not_answer_in_time_may_have_done_the_work(endpoint: LoopbackServer) -> None:
    endpoint.latency_s = 2
    found = failure(endpoint.base_url, timeout_s=0.3)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("timeout", True)


def test_nobody_at_the_address_is_paid_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = failure(url)
    assert isinstance(found, ReplyError)
    assert (found.kind, found.may_be_billed) == ("connection", False)
    assert url in str(found)


# Limits.


def test_a_response_tells_the_limits(endpoint: LoopbackServer) -> None:
    endpoint.limits = Limits(requests_per_minute=120, tokens_per_minute=60_000, window_s=1)
    told: list[RateLimits] = []
    ask(endpoint.base_url, told=told)
    assert (told[0].requests_per_minute, told[0].tokens_per_minute) == (120, 60_000)
    assert told[0].requests_left == 1


def test_a_429_tells_the_limits_and_how_long_to_wait(endpoint: LoopbackServer) -> None:
    endpoint.limits = Limits(requests_per_minute=1)
    told: list[RateLimits] = []
    ask(endpoint.base_url, told=told)
    with pytest.raises(ReplyError) as caught:
        ask(endpoint.base_url, told=told)
    assert caught.value.kind == "rate limited"
    assert 50 < (caught.value.retry_after_s or 0) <= 60
    assert [one.requests_left for one in told] == [0, 0]
    assert told[1].requests_reset_s == pytest.approx(60, abs=5)
