"""How OpenAI and Anthropic put what the loopback server says: answers, errors, limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.loopback_limits import Limits

Body = dict[str, Any]
CHAT, COMPLETIONS, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/messages"
OPENAI_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an error in OpenAI's form."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def anthropic_error(
    status: int, message: str, type: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error in Anthropic's form."""
    body = {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_loopback"}
    return web.json_response(body, status=status, headers=headers)


class Protocol:
    """OpenAI's, and what Anthropic does otherwise."""

    def keys(self, request: web.Request) -> list[str | None]:
        return [request.headers.get("Authorization", "").removeprefix("Bearer ")]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        return error(status, message, OPENAI_CODES.get(status, "server_error"), headers)

    def limit_headers(self, limits: Limits) -> dict[str, str]:
        return limits.openai_headers()

    def reserved_tokens(self, body: Body, prompt: str) -> int:
        """Return what a request takes from the limit before it is answered.

        The larger of the prompt and max_tokens (platform.openai.com/docs/guides/rate-limits).
        """
        return max(len(prompt.split()), body.get("max_tokens") or body.get("max_completion_tokens") or 0)

    def unused_tokens(self, reserved: int, tokens: Counter[str]) -> int:
        """Return what comes back when a reply was shorter than max_tokens: nothing."""
        return 0

    def whole(self, path: str, model: str, text: str, tokens: Counter[str]) -> Body:
        message = {"message": {"role": "assistant", "content": text}}
        choice = message if path == CHAT else {"text": text, "logprobs": None}
        return {
            "id": "loopback",
            "object": "chat.completion" if path == CHAT else "text_completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", **choice}],
            "usage": {**tokens, "total_tokens": tokens.total()},
        }


class AnthropicProtocol(Protocol):
    def keys(self, request: web.Request) -> list[str | None]:
        return [*super().keys(request), request.headers.get("x-api-key")]

    def error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        return anthropic_error(status, message, ANTHROPIC_TYPES.get(status, "api_error"), headers)

    def limit_headers(self, limits: Limits) -> dict[str, str]:
        return limits.anthropic_headers()

    def reserved_tokens(self, body: Body, prompt: str) -> int:
        """Return the prompt and max_tokens, adjusted at the end (platform.claude.com, rate limits)."""
        return len(prompt.split()) + int(body["max_tokens"])

    def unused_tokens(self, reserved: int, tokens: Counter[str]) -> int:
        return reserved - tokens.total()

    def whole(self, path: str, model: str, text: str, tokens: Counter[str]) -> Body:
        return {
            "id": "msg_loopback",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": tokens["prompt_tokens"], "output_tokens": tokens["completion_tokens"]},
        }


PROTOCOLS = {CHAT: Protocol(), COMPLETIONS: Protocol(), MESSAGES: AnthropicProtocol()}


def too_many(protocol: Protocol, what: str, wait_s: float) -> web.Response:
    """Return the 429 of a request that the limits do not admit for so long."""
    if math.isinf(wait_s):
        return protocol.error(429, f"Request too large for this account on {what} per min.")
    headers = {"Retry-After": str(math.ceil(wait_s))}
    if not isinstance(protocol, AnthropicProtocol):
        headers["retry-after-ms"] = f"{wait_s * 1000:.0f}"
    return protocol.error(429, f"Rate limit reached on {what} per min.", headers)
