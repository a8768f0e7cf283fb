"""The loopback server limits, fails and counts as a provider does, or tests on it would show nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.loopback import LoopbackServer
from tests.loopback_faults import Faults
from tests.loopback_limits import Limits
from tests.loopback_protocols import CHAT, MESSAGES

Answer = tuple[int, dict[str, str], str]


def post_all(server: LoopbackServer, path: str, prompts: list[str], max_tokens: int = 5) -> list[Answer]:
    """Return status, headers and body of each prompt's answer, asked one after the other; 0 for none."""

    async def post() -> list[Answer]:
        answers = []
        async with aiohttp.ClientSession(server.base_url.removesuffix("/v1")) as session:
            for prompt in prompts:
                messages = [{"role": "user", "content": prompt}]
                body = {"model": "m", "max_tokens": max_tokens, "messages": messages}
                try:
                    async with session.post(path, json=body) as answer:
                        headers = {name.lower(): value for name, value in answer.headers.items()}
                        answers.append((answer.status, headers, await answer.text()))
                except aiohttp.ClientError:
                    answers.append((0, {}, ""))
        return answers

    return asyncio.run(post())


def stats(server: LoopbackServer) -> dict[str, Any]:
    with urllib.request.urlopen(server.base_url.replace("/v1", "/stats")) as answer:
        return dict(json.load(answer))


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_more_requests_than_the_limit_get_429_and_a_wait_after_which_they_pass(path: str) -> None:
    with LoopbackServer(limits=Limits(requests_per_minute=120, window_s=1)) as server:
        answers = post_all(server, path, ["a", "b", "c"])
        assert [status for status, _, _ in answers] == [200, 200, 429]
        assert answers[2][1]["retry-after"] == "1"
        time.sleep(1)
        assert post_all(server, path, ["c"])[0][0] == 200
        assert stats(server)["rate_limited"] == 1


def test_openais_headers_are_on_every_response() -> None:
    with LoopbackServer(limits=Limits(60, 6_000, window_s=60)) as server:
        status, headers, _ = post_all(server, CHAT, ["one two"], max_tokens=100)[0]
        assert status == 200
        assert headers["x-ratelimit-limit-requests"] == "60"
        assert headers["x-ratelimit-remaining-requests"] == "59"
        assert headers["x-ratelimit-remaining-tokens"] == "5900"
        assert headers["x-ratelimit-reset-requests"].endswith("s")


def test_anthropic_gives_back_what_a_reply_did_not_use_and_openai_does_not() -> None:
    left = {}
    for path, name in (
        (CHAT, "x-ratelimit-remaining-tokens"),
        (MESSAGES, "anthropic-ratelimit-tokens-remaining"),
    ):
        with LoopbackServer(lambda body: "a b c", limits=Limits(tokens_per_minute=1_000)) as server:
            left[path] = int(post_all(server, path, ["one two"], max_tokens=500)[0][1][name])
    assert left[CHAT] == pytest.approx(500, abs=20)
    assert left[MESSAGES] == pytest.approx(995, abs=5)


def test_a_request_larger_than_the_limit_is_told_so() -> None:
    with LoopbackServer(limits=Limits(tokens_per_minute=100)) as server:
        status, headers, body = post_all(server, CHAT, ["a"], max_tokens=101)[0]
        assert (status, "retry-after" in headers) == (429, False)
        assert "Request too large" in body


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_faults_are_dealt_by_the_seed_and_a_second_attempt_has_another_fate(path: str) -> None:
    shares = {"429": 0.1, "500": 0.1, "529": 0.1, "drop": 0.1, "truncated": 0.1, "html": 0.1, "empty": 0.1}
    prompts = [str(number) for number in range(150)]

    def run(order: list[str]) -> tuple[dict[str, tuple[int, str]], LoopbackServer]:
        with LoopbackServer(lambda body: "4", faults=Faults(shares, seed=3)) as server:
            answers = post_all(server, path, order)
            again = post_all(server, path, order)
        first = {p: (status, body) for p, (status, _, body) in zip(order, answers, strict=True)}
        assert any(first[p][0] == 500 and a[0] == 200 for p, a in zip(order, again, strict=True))
        return first, server

    found, server = run(prompts)
    assert run(prompts[::-1])[0] == found
    assert set(server.faults.dealt) == set(shares)
    assert all(10 < count < 60 for count in server.faults.dealt.values()), "of 300 attempts"
    statuses = Counter(status for status, _ in found.values())
    assert set(statuses) == {0, 200, 429, 500, 529}


def test_what_was_lost_on_the_way_is_billed_and_what_was_refused_is_not() -> None:
    for name, billed in (("drop", 3), ("truncated", 3), ("empty", 3), ("429", 0), ("500", 0), ("html", 0)):
        with LoopbackServer(lambda body: "a b", faults=Faults({name: 1.0})) as server:
            post_all(server, CHAT, ["a"])
            usage = server.usage.get(CHAT, Counter())
            assert (usage.total(), server.answered.total()) == (billed, 0), name


def test_a_stalled_answer_comes_late_and_whole() -> None:
    with LoopbackServer(faults=Faults({"stall": 1.0}, stall_s=0.3)) as server:
        start = time.monotonic()
        assert post_all(server, CHAT, ["a"])[0][0] == 200
        assert time.monotonic() - start >= 0.3


def test_poison_fails_however_often_it_is_asked() -> None:
    with LoopbackServer(poison=lambda body: "bad" in str(body)) as server:
        answers = post_all(server, CHAT, ["bad", "good", "bad"])
        assert [status for status, _, _ in answers] == [500, 200, 500]


def test_as_a_process_it_says_where_it_listens() -> None:
    options = ["--port", "0", "--fault", "500=1", "--requests-per-minute", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.loopback", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().strip().rpartition(":")[2].removesuffix("/v1"))
            server = LoopbackServer(port=port)
            status, headers, _ = post_all(server, CHAT, ["a"])[0]
            assert (status, headers["x-ratelimit-remaining-requests"]) == (500, "59")
            assert stats(server)["faults"] == {"500": 1}
        finally:
            process.terminate()
