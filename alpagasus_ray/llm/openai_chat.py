"""OpenAI's protocol with its SDK's headers: OpenAI itself, vLLM, Ray Serve, any compatible server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai

from alpagasus_ray.llm.chat import FILTERED, REFUSAL, RateLimits, Reply, Request, ignore_limits
from alpagasus_ray.llm.failures import Rejection, failure_of, malformed, rejection_of, usable_key, writable
from alpagasus_ray.llm.rate_limits import openai_limits
from alpagasus_ray.llm.wire import Wire, json_object, token_count

OPENAI_URL = "https://api.openai.com/v1"


class OpenAIChat:
    """Chat completions, or plain completions for raw prompts, of any OpenAI-compatible server."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout_s: float) -> None:
        """Connect to nothing yet; raises EndpointError for a key that cannot be sent, and as Wire does."""
        self.on_limits: Callable[[RateLimits], None] = ignore_limits
        self._where = base_url or "the OpenAI API"
        # Never the SDK's own OPENAI_BASE_URL: it is in no manifest.
        self._url = (base_url or OPENAI_URL).rstrip("/")
        self._max_tokens = "max_tokens"
        """What the field is called: models that want `max_completion_tokens` say so when first asked."""
        key = usable_key(api_key)
        self._wire = Wire(
            self._where,
            lambda client: openai.AsyncOpenAI(base_url=self._url, api_key=key, http_client=client),
            timeout_s,
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
        await self._wire.close()

    async def _post(self, request: Request) -> dict[str, Any] | Rejection:
        """Return the answer's JSON object, or what an answer with an error says; ReplyError for none."""
        kind = "completions" if request.raw_prompt else "chat/completions"
        answer = await self._wire.post(f"{self._url}/{kind}", _body(request, self._max_tokens))
        if (limits := openai_limits(answer.headers)) is not None:
            self.on_limits(limits)
        return answer.rejection(self._wire.key, time.time()) or json_object(answer.content)

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
        return f": {rejection_of(200, answer, self._wire.key, None).words}"


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
