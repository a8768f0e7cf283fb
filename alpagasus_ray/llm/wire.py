"""How requests reach a provider's endpoint, and how the parts of an answer are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import httpx2
from multidict import CIMultiDict

from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.llm.failures import NO_KEY, Rejection, malformed, rejection_of, unreached
from alpagasus_ray.llm.proxies import Proxy, proxy_of
from alpagasus_ray.llm.rate_limits import retry_after_s

MAX_TOKENS = 1 << 31
"""A count of tokens that is as large is garbage."""
CONNECT_TIMEOUT_S = 30.0
KEEP_ALIVE_S = 4.0
"""Idle connections are closed before the server does it: uvicorn's servers, and so vLLM's, wait 5 s, and a
request that meets a connection being closed is lost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    """Whose names may be asked for in any case."""
    content: bytes

    def rejection(self, key: str, now: float) -> Rejection | None:
        """Return what an answer that is none says, without the key; None where it is one.

        `now` is the Unix time in seconds that the headers' dates are counted from.
        """
        if self.status < 300:
            return None
        try:
            body: object = json.loads(self.content)
        except (ValueError, RecursionError):
            body = self.content.decode("utf-8", "replace")
        return rejection_of(self.status, body, key, retry_after_s(self.headers, now))


async def answer_to(
    sending: AbstractAsyncContextManager[aiohttp.ClientResponse], where: str, key: str
) -> Answer:
    """Return the answer to what is being sent; raises as `unreached` says where no whole one comes."""
    try:
        async with sending as response:
            return Answer(response.status, response.headers, await response.read())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # No chain: aiohttp's errors hold the request's headers, and so the key.
        raise unreached(error, where, key) from None


class Sdk(Protocol):
    """What is taken of a provider's own client: the headers that its protocol wants."""

    @property
    def api_key(self) -> str | None:
        """The key, as it is sent."""

    @property
    def default_headers(self) -> Mapping[str, object]:
        """Of every request; what is no text in it is not sent."""

    @property
    def auth_headers(self) -> Mapping[str, str]:
        """Those with the key."""

    async def close(self) -> None:
        """Release what it holds."""


class Wire:
    """The connections to one endpoint, and the headers that the provider's SDK has for it.

    The bytes go to aiohttp at once. On the way there the SDK makes options, a request of httpx2 and one of
    aiohttp of each body, and as much of each answer: more than half of what a judge's actor computed, and
    0.67 of an endpoint's limit with 256 in flight instead of more than 0.8 (benchmarks/comparing.py).
    """

    def __init__(self, where: str, sdk: Callable[[httpx2.AsyncClient], Sdk], timeout_s: float) -> None:
        """Connect to nothing yet. `where` names the endpoint in what is said of it, `sdk` makes the client.

        Raises EndpointError where the environment's certificates cannot be read, or the address is none.
        """
        self._where, self._timeout_s = where, timeout_s
        try:
            self._certificates = httpx2.create_ssl_context()
        except OSError as error:
            raise EndpointError(f"the certificates in SSL_CERT_FILE cannot be read: {error}") from None
        try:
            # It sends nothing: what the environment says of proxies is looked at here.
            self._sdk = sdk(httpx2.AsyncClient(verify=self._certificates, trust_env=False))
        except httpx2.InvalidURL as error:
            raise EndpointError(f"{where} is no address of an endpoint: {error}") from None
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, Proxy | None] = {}

    @property
    def key(self) -> str:
        """What must be in no message."""
        return self._sdk.api_key or NO_KEY

    async def post(self, url: str, body: dict[str, Any]) -> Answer:
        """Return the answer; raises what `unreached` makes of it where no whole one came."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        session = self._session or self._connected()
        # Never the session's own headers: aiohttp shows those to a proxy, the key among them.
        headers = self._headers
        if (proxy := self._proxy(url)) is None:
            sending = session.post(url, data=content, headers=headers)
        else:
            if url.startswith("http:"):  # a proxy reads the request itself; with https, a CONNECT before it
                headers = CIMultiDict([*headers.items(), *proxy.headers.items()])
            sending = session.post(
                url, data=content, headers=headers, proxy=proxy.address, proxy_headers=proxy.headers
            )
        return await answer_to(sending, self._where, self.key)

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self._sdk.close()
        finally:
            if self._session is not None:
                await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        # Here, within the event loop: the SDK names it in a header. Its custom headers have the last word.
        for headers in (self._sdk.auth_headers, self._sdk.default_headers):
            for name, value in headers.items():
                if isinstance(value, str):
                    self._headers[name] = value
        # Half the time at most goes into connecting, so that a request that runs out of time was sent.
        connect_s = min(CONNECT_TIMEOUT_S, self._timeout_s / 2)
        self._session = aiohttp.ClientSession(
            # No limit: who asks keeps to max_concurrency.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ssl=self._certificates),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, connect=connect_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._session

    def _proxy(self, url: str) -> Proxy | None:
        """Return the proxy that the environment wants for an address; aiohttp would look for it each time."""
        if url not in self._proxies:
            self._proxies[url] = proxy_of(url)
        return self._proxies[url]


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


def token_count(usage: object, name: str) -> int:
    """Return a count of the answer's usage, 0 where there is none that makes sense."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < MAX_TOKENS else 0
