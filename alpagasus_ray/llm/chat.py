"""What is asked of a model and what comes back: the protocol that every provider speaks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
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
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that is sent to a model, and nothing else."""

    messages: tuple[Message, ...]
    model: str
    sampling: Sampling
    raw_prompt: bool = False
    """Send the one message's text as it stands, to a completions endpoint, with no chat template."""

    @property
    def key(self) -> str:
        """The 64 hexadecimal digits under which the ledger keeps the reply."""
        sent = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(sent.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer and what it used."""

    text: str
    finish_reason: str
    """stop, or length when the reply was cut by max_tokens."""
    prompt_tokens: int
    completion_tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as plain JSON values."""
        return asdict(self)


class ChatModel(Protocol):
    """A model that can be asked. Implementations are cheap to build and safe to share in one event loop."""

    async def complete(self, request: Request) -> Reply:
        """Return the model's reply.

        Raises ReplyError when this one request failed for good, and EndpointError when no request
        can succeed (bad key, unknown model, endpoint gone).
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class ReplyError(Exception):
    """This request failed for good; the others may still succeed. `kind` is what failures are counted by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class EndpointError(Exception):
    """No request to this endpoint can succeed; the message says what to mend."""
