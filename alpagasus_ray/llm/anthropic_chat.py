"""Anthropic's protocol with its SDK's headers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anthropic

from alpagasus_ray.llm.chat import EndpointError, RateLimits, Reply, Request, ignore_limits
from alpagasus_ray.llm.failures import failure_of, malformed, usable_key, writable
from alpagasus_ray.llm.rate_limits import anthropic_limits
from alpagasus_ray.llm.wire import Wire, json_object, token_count

ANTHROPIC_URL = "https://api.anthropic.com"
INPUT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""Together they are the prompt (platform.claude.com/docs/en/build-with-claude/prompt-caching)."""
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""Ours by Anthropic's stop reason; any other stands as it is."""


class AnthropicChat:
    """The Messages API of Anthropic, or of a server that speaks it."""

    def __init__(self, base_url: str | None, api_key: str | None, timeout_s: float) -> None:
        """Connect to nothing yet; raises EndpointError for a key that cannot be sent, and as Wire does.

        `base_url` is the server's, with or without the /v1 that OpenAI's have.
        """
        self.on_limits: Callable[[RateLimits], None] = ignore_limits
        self._where = base_url or "the Anthropic API"
        # Never the SDK's own ANTHROPIC_BASE_URL: it is in no manifest.
        server = (base_url or ANTHROPIC_URL).rstrip("/").removesuffix("/v1")
        self._url = f"{server}/v1/messages"
        key = usable_key(api_key)
        self._wire = Wire(
            self._where,
            lambda http_client: anthropic.AsyncAnthropic(
                base_url=server, api_key=key, http_client=http_client
            ),
            timeout_s,
        )

    async def complete(self, request: Request) -> Reply:
        """Return the reply; raises as ChatModel.complete says."""
        if request.raw_prompt:
            raise EndpointError("Anthropic's API takes conversations only, no raw prompts")
        answer = await self._wire.post(self._url, _body(request))
        now = time.time()
        if (limits := anthropic_limits(answer.headers, now)) is not None:
            self.on_limits(limits)
        if (rejection := answer.rejection(self._wire.key, now)) is not None:
            raise failure_of(rejection, self._where, request.model)
        return self._reply(json_object(answer.content))

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    def _reply(self, answer: dict[str, Any]) -> Reply:
        blocks, stop_reason, usage = answer.get("content"), answer.get("stop_reason"), answer.get("usage")
        if not isinstance(blocks, list):
            raise malformed("the body is no message with content")
        texts = [
            block.get("text") for block in blocks if isinstance(block, dict) and block.get("type") == "text"
        ]
        text = "".join(part for part in texts if isinstance(part, str))
        return Reply(
            text=writable(text),
            finish_reason=FINISH_REASONS.get(stop_reason, stop_reason)
            if isinstance(stop_reason, str)
            else "stop",
            prompt_tokens=sum(token_count(usage, name) for name in INPUT_TOKENS),
            completion_tokens=token_count(usage, "output_tokens"),
        )


def _body(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": sampling.max_tokens,
        "messages": [
            {"role": message.role, "content": message.content}
            for message in request.messages
            if message.role != "system"
        ],
    }
    if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
        body["system"] = system
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    # 1 changes nothing, and newer models refuse both at once.
    if sampling.top_p is not None and sampling.top_p != 1.0:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    return body
