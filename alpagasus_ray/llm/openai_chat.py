"""OpenAI's protocol through the official SDK: OpenAI itself, vLLM, Ray Serve, any compatible server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp
import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion

from alpagasus_ray.llm.chat import EndpointError, RateLimits, Reply, ReplyError, Request, ignore_limits

OPENAI_URL = "https://api.openai.com/v1"
MAX_TOKENS = 1 << 31
NO_KEY = "no-key"
"""Sent to servers that ask for none; the SDK insists on a text."""


class OpenAIChat:
    """Chat completions, or plain completions for raw prompts, of any OpenAI-compatible server."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout_s: float, max_retries: int) -> None:
        self.on_limits: Callable[[RateLimits], None] = ignore_limits
        self._where = base_url or "the OpenAI API"
        key = (api_key or NO_KEY).strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointError("the API key holds characters that no key has: export it anew")
        self._client = openai.AsyncOpenAI(
            base_url=base_url or OPENAI_URL,  # never the SDK's own OPENAI_BASE_URL: it is in no manifest
            api_key=key,
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
            # No chain: the SDK's own errors hold the endpoint's words, and those may repeat the key.
            raise self._classified(error, request.model) from None
        except (ValueError, RecursionError) as error:
            # Not JSON, not UTF-8, nested without end, a number of a thousand digits.
            raise ReplyError("malformed reply", f"the body is no reply ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _classified(self, error: openai.OpenAIError, model: str) -> Exception:
        words = _endpoint_words(error).replace(self._client.api_key, "***")
        if _is_connection_lost(error):
            return ReplyError("connection", f"{self._where} cannot be reached, or hangs up")
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
        "temperature": openai.omit if sampling.temperature is None else sampling.temperature,
        "top_p": openai.omit if sampling.top_p is None else sampling.top_p,
        "stop": list(sampling.stop) or openai.omit,
    }


def _reply_of_chat(completion: object) -> Reply:
    # A server that answers HTML with status 200 makes the SDK return a plain text.
    if not isinstance(completion, ChatCompletion) or not _is_list(completion.choices):
        raise ReplyError("malformed reply", "the body is no chat completion with choices")
    message = getattr(completion.choices[0], "message", None)
    content, refusal = getattr(message, "content", None), getattr(message, "refusal", None)
    if content is None and isinstance(refusal, str) and refusal:
        raise ReplyError("refused by the model", refusal)
    return _reply(content, completion.choices[0], completion.usage)


def _reply_of_completion(completion: object) -> Reply:
    if not isinstance(completion, Completion) or not _is_list(completion.choices):
        raise ReplyError("malformed reply", "the body is no completion with choices")
    return _reply(getattr(completion.choices[0], "text", None), completion.choices[0], completion.usage)


def _is_list(choices: object) -> bool:
    """Return whether there are choices; the SDK checks no types, so a server may send anything."""
    return isinstance(choices, list) and len(choices) > 0


def _reply(text: object, choice: object, usage: object) -> Reply:
    if not isinstance(text, str):
        raise ReplyError("malformed reply", "the reply holds no text")
    finish_reason = getattr(choice, "finish_reason", None)
    return Reply(
        # Half a surrogate pair is valid in JSON, but no file can hold it.
        text=text.encode("utf-8", "replace").decode() if not text.isascii() else text,
        finish_reason=finish_reason if isinstance(finish_reason, str) else "stop",
        prompt_tokens=_tokens(usage, "prompt_tokens"),
        completion_tokens=_tokens(usage, "completion_tokens"),
    )


def _tokens(usage: object, name: str) -> int:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and 0 <= count < MAX_TOKENS else 0


def _is_connection_lost(error: BaseException | None) -> bool:
    """Return whether the connection broke, which the aiohttp transport reports as a time-out at times."""
    while error is not None:
        if isinstance(error, ConnectionError | aiohttp.ClientConnectionError) and not isinstance(
            error, TimeoutError
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _endpoint_words(error: openai.OpenAIError) -> str:
    """Return what the endpoint said, in one line; the request, and so the key, is not in it."""
    body = getattr(error, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    cause = error.__cause__
    text = str(words or (cause if isinstance(error, openai.APIConnectionError) and cause else error))
    return " ".join(text.split())[:300]
