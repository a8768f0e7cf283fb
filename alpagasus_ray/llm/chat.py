"""What is asked of a model and what comes back: the protocol that every provider speaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """system, user or assistant."""
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the reply is drawn."""

    max_tokens: int
    temperature: float | None = 0.0
    """None: not sent; reasoning models take no other than their own."""
    top_p: float | None = 1.0
    """None: not sent."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """None: not sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that is sent to a model, and nothing else."""

    messages: tuple[Message, ...]
    model: str
    sampling: Sampling
    raw_prompt: bool = False
    """Send the one message's text as it stands, to a completions endpoint, with no chat template."""
    _key: str = field(default="", init=False, repr=False, compare=False)

    @property
    def key(self) -> str:
        """The 64 hexadecimal digits under which the ledger keeps the reply."""
        if not self._key:
            object.__setattr__(self, "_key", self._digest())
        return self._key

    def _digest(self) -> str:
        sampling = self.sampling
        values: dict[str, Any] = {
            "messages": [{"content": one.content, "role": one.role} for one in self.messages],
            "model": self.model,
            "raw_prompt": self.raw_prompt,
            "sampling": {
                "max_tokens": sampling.max_tokens,
                "stop": sampling.stop,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
            },
        }
        if sampling.seed is not None:
            values["seed"] = sampling.seed
        # Spelt out in the order of the alphabet: asdict and sorting take three times as long.
        sent = json.dumps(values, ensure_ascii=False)
        return hashlib.blake2b(sent.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


REFUSAL, FILTERED = "refusal", "content_filter"
REFUSALS = {REFUSAL: "without a word", FILTERED: "the provider's content filter stopped the reply"}
"""Finish reasons of replies that are no answers, and what is said of them."""
MAX_REFUSAL = 300
REFUSED = "refused by the model"
"""The kind of failure that a refusal is, whether the model or the provider before it refused."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer and what it used."""

    text: str
    finish_reason: str
    """stop; length when the reply was cut by max_tokens; one of REFUSALS, paid for like any other."""
    prompt_tokens: int
    completion_tokens: int

    @property
    def refusal(self) -> str | None:
        """Why the model would not answer, in one line of its own words; None where it did."""
        if self.finish_reason not in REFUSALS:
            return None
        words = " ".join(self.text.split())[:MAX_REFUSAL]
        return words if words and self.finish_reason == REFUSAL else REFUSALS[self.finish_reason]

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as plain JSON values."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a response's headers say of the account's limits; None where they say nothing."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    requests_left: int | None = None
    requests_reset_s: float | None = None
    """Seconds until the requests that are left are back at the limit."""
    tokens_left: int | None = None
    tokens_reset_s: float | None = None


def ignore_limits(limits: RateLimits) -> None:
    """Take no notice of what the headers say."""


class ChatModel(Protocol):
    """A model that can be asked. Implementations are cheap to build and safe to share in one event loop."""

    on_limits: Callable[[RateLimits], None]
    """Called with what each response's headers say of the limits, where they say anything."""

    async def complete(self, request: Request) -> Reply:
        """Return the model's reply; sends the request once, whoever asks decides about trying again.

        Raises ReplyError when this one request failed, and EndpointError when no request can succeed
        (bad key, unknown model).
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


PASSING_KINDS = frozenset({"connection", "timeout", "server error", "rate limited", "malformed reply"})
"""Kinds of failures after which the same request may succeed."""


class ReplyError(Exception):
    """This request failed; others may still succeed."""

    def __init__(
        self, kind: str, message: str, *, retry_after_s: float | None = None, may_be_billed: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        """What failures are counted by."""
        self.retry_after_s = retry_after_s
        """How long the endpoint asked to be left alone."""
        self.may_be_billed = may_be_billed
        """The endpoint may have done the work all the same: the connection broke after it was asked."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed when it is sent again."""
        return self.kind in PASSING_KINDS


class EndpointError(Exception):
    """No request to this endpoint can succeed; the message says what to mend."""

    def __init__(self, message: str, *, may_be_the_row: bool = False) -> None:
        super().__init__(message)
        self.may_be_the_row = may_be_the_row
        """Where others were answered before, it is this one request: gateways refuse texts so."""
