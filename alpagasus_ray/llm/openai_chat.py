"""OpenAI's protocol through the official SDK: OpenAI itself, vLLM, Ray Serve, any compatible server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai

from alpagasus_ray.llm.chat import FILTERED, REFUSAL, RateLimits, Reply, Request, ignore_limits
from alpagasus_ray.llm.failures import (
    Rejection,
    failure_of,
    late,
    malformed,
    rejection_of,
    unreached,
    usable_key,
)
from alpagasus_ray.llm.rate_limits import openai_limits, retry_after_s
from alpagasus_ray.llm.wire import (
    FixedAddresses,
    SameHeaders,
    connections,
    json_bytes,
    json_object,
    token_count,
    writable,
)

OPENAI_URL = "https://api.openai.com/v1"


class _Client(SameHeaders, openai.AsyncOpenAI):
    """The SDK's own client, less what each request need not repeat."""


class _HttpClient(FixedAddresses, openai.DefaultAioHttpClient):
    """The SDK's own client on aiohttp, less what each request need not repeat."""


class OpenAIChat:
    """Chat completions, or plain completions for raw prompts, of any OpenAI-compatible server."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout_s: float) -> None:
        """Connect to nothing yet; raises EndpointError for a key that cannot be sent."""
        self.on_limits: Callable[[RateLimits], None] = ignore_limits
        self._where = base_url or "the OpenAI API"
        # Never the SDK's own OPENAI_BASE_URL: it is in no manifest.
        self._url = (base_url or OPENAI_URL).rstrip("/")
        self._timeout_s = timeout_s
        self._max_tokens = "max_tokens"
        """What the field is called: models that want `max_completion_tokens` say so when first asked."""
        timeout, limits = connections(timeout_s)
        self._client = _Client(
            base_url=self._url,
            api_key=usable_key(api_key),
            timeout=timeout,
            max_retries=0,  # who asks decides about trying again
            # httpx's own pool takes time quadratic in its connections: 10 times slower at 256 in flight.
            http_client=_HttpClient(timeout=timeout, limits=limits),
        )

    async def complete(self, request: Request) -> Reply:
        """Return the reply; raises as ChatModel.complete says.

        A model that refuses `max_tokens` is asked a second time, with `max_completion_tokens`: the
        refusal costs nothing.
        """
        answer = await self._post(request)
        if isinstance(answer, Rejection) and answer.takes_no_max_tokens:
            self._max_tokens = "max_completion_tokens"
            answer = await self._post(request)
        if isinstance(answer, Rejection):
            raise failure_of(answer, self._where, request.model)
        return self._reply(answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _post(self, request: Request) -> dict[str, Any] | Rejection:
        """Return the answer's JSON object, or what an answer with an error says; ReplyError for none."""
        # In full, so that the SDK need not put it together for each request.
        url = f"{self._url}/completions" if request.raw_prompt else f"{self._url}/chat/completions"
        content = json_bytes(_body(request, self._max_tokens))
        # The raw response: the SDK takes as long to build its own models of it as to fetch it.
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.post(url, cast_to=httpx2.Response, content=content)
        except openai.APIStatusError as error:
            headers = error.response.headers
            self._tell_limits(headers)
            wait_s = retry_after_s(headers, time.time())
            # No chain, here and below: the SDK's errors hold the endpoint's words, which may repeat the key.
            return rejection_of(error.status_code, error.body, self._client.api_key, wait_s)
        except TimeoutError:
            raise late(self._where) from None
        except (openai.OpenAIError, httpx2.InvalidURL) as error:
            raise unreached(error, self._where, self._client.api_key) from None
        self._tell_limits(response.headers)
        return json_object(response.content)

    def _tell_limits(self, headers: httpx2.Headers) -> None:
        if (limits := openai_limits(dict(headers.items()))) is not None:
            self.on_limits(limits)

    def _reply(self, answer: dict[str, Any]) -> Reply:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise malformed(f"the body has no choices{self._error_in(answer)}")
        choice = choices[0]
        finish_reason = choice.get("finish_reason")
        message = choice.get("message")
        if not isinstance(message, dict):  # a plain completion has none, and its text stands in its place
            message = {"content": choice.get("text")}
        text, refusal = message.get("content"), message.get("refusal")
        if not text and isinstance(refusal, str) and refusal:
            text, finish_reason = refusal, REFUSAL
        if text is None and finish_reason in ("length", FILTERED):
            text = ""  # a reasoning model that thought until max_tokens, or a filter that let nothing pass
        if not isinstance(text, str):
            raise malformed("the reply holds no text")
        usage = answer.get("usage")
        return Reply(
            text=writable(text),
            finish_reason=finish_reason if isinstance(finish_reason, str) else "stop",
            prompt_tokens=token_count(usage, "prompt_tokens"),
            completion_tokens=token_count(usage, "completion_tokens"),
        )

    def _error_in(self, answer: dict[str, Any]) -> str:
        """Return the words of an error that came with status 200, as gateways send it."""
        if not answer.get("error"):
            return ""
        return f": {rejection_of(200, answer, self._client.api_key, None).words}"


def _body(request: Request, max_tokens: str) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {"model": request.model}
    if request.raw_prompt:
        body["prompt"] = request.messages[0].content
        body["max_tokens"] = sampling.max_tokens
    else:
        body["messages"] = [{"role": one.role, "content": one.content} for one in request.messages]
        body[max_tokens] = sampling.max_tokens
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return body
