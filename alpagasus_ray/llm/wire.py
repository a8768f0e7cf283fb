"""What the providers' clients share: how connections are kept, and how an answer's parts are read."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from alpagasus_ray.llm.failures import malformed

MAX_TOKENS = 1 << 31
"""A count of tokens that is as large is garbage."""
CONNECT_TIMEOUT_S = 30.0
KEEP_ALIVE_S = 4.0
"""Idle connections are closed before the server does it: uvicorn's servers, and so vLLM's, wait 5 s, and a
request that meets a connection being closed is lost."""


class FixedAddresses(httpx2.AsyncClient):
    """Mixed into an SDK's HTTP client: requests are taken as the SDK made them.

    httpx2 parses the address and merges cookies, queries and its own headers into each request anew, of which
    an endpoint needs nothing: a quarter of the SDK's whole time.
    """

    def build_request(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        content: Any = None,
        headers: Any = None,
        timeout: Any = None,
        **unused: Any,
    ) -> httpx2.Request:
        """Return the request with these headers and content to this address."""
        addresses = self.__dict__.setdefault("_addresses", {})
        address = addresses.get(url) or addresses.setdefault(url, httpx2.URL(url))
        extensions = {"timeout": httpx2.Timeout(timeout).as_dict()}
        return httpx2.Request(method, address, headers=headers, content=content, extensions=extensions)


class SameHeaders:
    """Mixed into an SDK's client: the headers it made for the first request serve for all.

    What differs between them is the body alone, and putting the same fifteen headers together each time,
    with the address and the JSON, takes the SDK as long as sending them. Bodies are handed in as bytes.
    """

    def _build_request(self, options: Any, *, retries_taken: int = 0) -> httpx2.Request:
        sdk: Any = super()
        client: Any = self
        request: httpx2.Request
        headers = self.__dict__.get("_same_headers")
        if headers is None:
            request = sdk._build_request(options, retries_taken=retries_taken)
            made = request.headers.raw
            self._same_headers = [one for one in made if one[0].lower() != b"content-length"]
        else:
            request = client._client.build_request(
                options.method, options.url, headers=headers, content=options.content, timeout=client.timeout
            )
        return request


def json_bytes(body: dict[str, Any]) -> bytes:
    """Return a request's body as it is sent."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def connections(timeout_s: float) -> tuple[httpx2.Timeout, httpx2.Limits]:
    """Return the time limits of one request and the limits of the pool, for an aiohttp transport.

    Half the time at most goes into connecting, so that a request that runs out of time was sent. The pool has
    no limit: who asks keeps to max_concurrency.
    """
    connect_s = min(CONNECT_TIMEOUT_S, timeout_s / 2)
    timeout = httpx2.Timeout(timeout_s, connect=connect_s, pool=connect_s)
    # 0 is aiohttp's "no limit"; None would be its default of 100.
    return timeout, httpx2.Limits(max_connections=0, keepalive_expiry=KEEP_ALIVE_S)


def json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer's body; ReplyError where it is none."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        # Not JSON, not UTF-8, nested without end, a number of a thousand digits.
        raise malformed(f"the body is no JSON ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise malformed("the body is no JSON object")
    return answer


def writable(text: str) -> str:
    """Return the text as a file can hold it: half a surrogate pair is valid in JSON, but in no file."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def token_count(usage: object, name: str) -> int:
    """Return a count of the answer's usage, 0 where there is none that makes sense."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < MAX_TOKENS else 0
