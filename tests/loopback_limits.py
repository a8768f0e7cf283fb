"""What a provider limits, as the loopback server does it: requests and tokens a minute, told in headers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class Bucket:
    """A token bucket: what is taken comes back evenly, so that `per_minute` flows in the long run."""

    per_minute: float
    window_s: float
    """How long an empty bucket takes to fill. 60 as at the providers; less, so that tests need not wait."""
    _left: float = 0.0
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        self._left, self._at_s = self.capacity, time.monotonic()

    @property
    def capacity(self) -> float:
        """As much as can be taken at once."""
        return max(self.per_minute * self.window_s / 60, 1.0)

    @property
    def left(self) -> float:
        """What can be taken now."""
        now = time.monotonic()
        self._left = min(self.capacity, self._left + (now - self._at_s) * self.per_minute / 60)
        self._at_s = now
        return self._left

    def wait_s(self, amount: float) -> float:
        """Return the seconds until so much can be taken."""
        return max(0.0, (amount - self.left) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take so much; a negative amount is given back."""
        self._left = min(self.capacity, self.left - amount)


@dataclass
class Limits:
    """An account's limits; None: not limited."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    window_s: float = 60.0
    rate_limited: int = 0
    """How many requests were answered with 429."""
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rates = {"requests": self.requests_per_minute, "tokens": self.tokens_per_minute}
        self._buckets = {what: Bucket(rate, self.window_s) for what, rate in rates.items() if rate}

    def admit(self, tokens: int) -> tuple[str, float] | None:
        """Take a request and its tokens, or return what is short, and for how many seconds.

        Infinite seconds: the request is larger than the limit.
        """
        amounts = {"requests": 1, "tokens": tokens}
        for what, bucket in self._buckets.items():
            if amounts[what] > bucket.capacity:
                return what, math.inf
            if (wait_s := bucket.wait_s(amounts[what])) > 0:
                self.rate_limited += 1
                return what, wait_s
        for what, bucket in self._buckets.items():
            bucket.take(amounts[what])
        return None

    def give_back(self, tokens: int) -> None:
        """Give back tokens that were taken for a reply which was shorter."""
        if "tokens" in self._buckets:
            self._buckets["tokens"].take(-tokens)

    def openai_headers(self) -> dict[str, str]:
        """Return OpenAI's headers as of now."""
        headers = {}
        for what, bucket in self._buckets.items():
            headers[f"x-ratelimit-limit-{what}"] = f"{bucket.per_minute:.0f}"
            headers[f"x-ratelimit-remaining-{what}"] = f"{bucket.left:.0f}"
            headers[f"x-ratelimit-reset-{what}"] = _duration(bucket.wait_s(bucket.capacity))
        return headers

    def anthropic_headers(self) -> dict[str, str]:
        """Return Anthropic's headers as of now."""
        headers = {}
        for what, bucket in self._buckets.items():
            full_at = datetime.now(UTC) + timedelta(seconds=bucket.wait_s(bucket.capacity))
            headers[f"anthropic-ratelimit-{what}-limit"] = f"{bucket.per_minute:.0f}"
            headers[f"anthropic-ratelimit-{what}-remaining"] = f"{bucket.left:.0f}"
            headers[f"anthropic-ratelimit-{what}-reset"] = full_at.isoformat()
        return headers


def _duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: 6ms, 1.5s, 1m12s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes:.0f}m{seconds:.3f}s" if minutes else f"{seconds:.3f}s"
