"""OpenAI's protocol through the official SDK: OpenAI itself, vLLM, Ray Serve, any compatible server."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from alpagasus_ray.llm.chat import EndpointError, Reply, ReplyError, Request

NO_KEY = "no-key"
"""Sent to servers that ask for none; the SDK insists on a text."""


class OpenAIChat:
    """Chat completions, or plain completions for raw prompts, of any OpenAI-compatible server."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout_s: float, max_retries: int) -> None:
        self._where = base_url or "the OpenAI API"
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or NO_KEY,
            timeout=timeout_s,
            max_retries=max_retries,
            # httpx's own pool takes time quadratic in its connections: 10 times slower at 256 in flight.
            http_client=openai.DefaultAioHttpClient(timeout=timeout_s),
        )

    async def complete(self, request: Request) -> Reply:
        """Return the reply; raises as ChatModel.complete says. The SDK retries what can pass."""
        try:
            if request.raw_prompt:
                return _reply_of_completion(await self._client.completions.create(**_raw_arguments(request)))
            return _reply_of_chat(await self._client.chat.completions.create(**_chat_arguments(request)))
        except openai.OpenAIError as error:
            raise self._classified(error, request.model) from error
        except json.JSONDecodeError as error:
            raise ReplyError("malformed reply", f"the body is not JSON: {error.msg}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _classified(self, error: openai.OpenAIError, model: str) -> Exception:
        words = _endpoint_words(error)
        match error:
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return EndpointError(f"{self._where} refuses the API key: {words}")
            case openai.NotFoundError():
                return EndpointError(
                    f"{self._where} does not know model {model} or is no OpenAI endpoint: {words}"
                )
            case openai.RateLimitError() if error.code == "insufficient_quota":
                return EndpointError(f"{self._where}: the account's quota is used up: {words}")
            case openai.RateLimitError():
                return ReplyError("rate limited", words)
            case openai.APITimeoutError():
                return ReplyError("timeout", f"no reply from {self._where} in time")
            case openai.APIConnectionError():
                return ReplyError("connection", f"{self._where} cannot be reached: {words}")
            case openai.InternalServerError():
                return ReplyError("server error", words)
            case openai.APIStatusError():
                return ReplyError("refused request", f"{error.status_code}: {words}")
            case _:
                return ReplyError("malformed reply", words)


def _chat_arguments(request: Request) -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return {"messages": messages, **_common_arguments(request)}


def _raw_arguments(request: Request) -> dict[str, Any]:
    return {"prompt": request.messages[0].content, **_common_arguments(request)}


def _common_arguments(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    return {
        "model": request.model,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or openai.omit,
    }


def _reply_of_chat(completion: object) -> Reply:
    # A server that answers HTML with status 200 makes the SDK return a plain text.
    if not isinstance(completion, ChatCompletion) or not completion.choices:
        raise ReplyError("malformed reply", "the body is no chat completion with choices")
    choice = completion.choices[0]
    if choice.message.content is None:
        refusal = choice.message.refusal
        raise ReplyError("refused by the model" if refusal else "malformed reply", refusal or "no content")
    return _reply(choice.message.content, choice.finish_reason, completion.usage)


def _reply_of_completion(completion: object) -> Reply:
    if not isinstance(completion, Completion) or not completion.choices:
        raise ReplyError("malformed reply", "the body is no completion with choices")
    choice = completion.choices[0]
    return _reply(choice.text, choice.finish_reason, completion.usage)


def _reply(text: str, finish_reason: str | None, usage: Any) -> Reply:
    return Reply(
        text=text,
        finish_reason=finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )


def _endpoint_words(error: openai.OpenAIError) -> str:
    """Return what the endpoint said, in one line; the request, and so the key, is not in it."""
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    cause = error.__cause__
    text = str(words or (cause if isinstance(error, openai.APIConnectionError) and cause else error))
    return " ".join(text.split())[:300]
