"""What goes wrong at a provider: answers that are none, by hand or dealt out by a seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]


class Dropped(web.Response):
    """Closes the connection instead of answering, or after a part of the answer."""

    part: bytes | None = None

    async def prepare(self, request: web.BaseRequest) -> Any:
        if self.part is not None:
            self.content_length = 10_000
            writer = await super().prepare(request)
            await writer.write(self.part)  # type: ignore[union-attr]
        assert request.transport is not None
        request.transport.close()
        raise ConnectionResetError


def dropped(part: bytes | None = None) -> web.Response:
    """Return what closes the connection, after this part of an answer where there is one."""
    response = Dropped()
    response.part = part
    return response


FAULTS = ("429", "500", "529", "drop", "stall", "truncated", "html", "empty")
"""429 has a Retry-After, stall answers late, html is a web page with status 200, empty has no choices."""
BILLED_FAULTS = ("drop", "truncated", "empty")
"""The work was done, and the reply got lost."""


@dataclass
class Faults:
    """Deals faults out to attempts: the same seed, the same faults, in whatever order requests come."""

    shares: Mapping[str, float]
    """Of all attempts, by the fault's name; the rest is answered."""
    seed: int = 0
    stall_s: float = 5.0
    retry_after_s: float = 1.0
    dealt: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        assert set(self.shares) <= set(FAULTS) and sum(self.shares.values()) <= 1, self.shares

    def deal(self, prompt: str, times: int) -> str | None:
        """Return the fault of a prompt's attempt, or None; another attempt has another fate."""
        at = random.Random(f"{self.seed} {times} {prompt}").random()
        for name, share in self.shares.items():
            if at < share:
                self.dealt[name] += 1
                return name
            at -= share
        return None


def instead(name: str, whole: Body, faults: Faults, error: Callable[..., web.Response]) -> web.StreamResponse:
    """Return what a fault puts in the place of a whole answer; `error` makes the protocol's errors."""
    content = json.dumps(whole).encode()
    wait = {"Retry-After": f"{faults.retry_after_s:g}"}
    answers: dict[str, Callable[[], web.StreamResponse]] = {
        "429": lambda: error(429, "Slow down.", wait),
        "500": lambda: error(500, "Oops."),
        "529": lambda: error(529, "Overloaded."),
        "drop": dropped,
        "truncated": lambda: web.Response(body=content[: len(content) // 2], content_type="application/json"),
        "html": lambda: web.Response(text="<html>Log in to the WiFi</html>", content_type="text/html"),
        "empty": lambda: web.json_response({**whole, "choices": [], "content": None}),
    }
    return answers[name]()
