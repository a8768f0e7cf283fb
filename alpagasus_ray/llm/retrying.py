"""Which failed requests are sent again, after how long, and when an endpoint counts as gone."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from alpagasus_ray.llm.chat import EndpointError, ReplyError

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 16.0
RATE_LIMITED_FOR_A_TRY = 10
"""A 429 says nothing about the request: so many of them are sent again for one other failure."""
MAX_FAILURES_IN_A_ROW = 32
"""After so many requests that failed for good, with no reply between them, the endpoint counts as gone."""
MAX_SILENCE_S = 60.0
"""After so long with nothing but failures, and MAX_FAILURES_IN_A_ROW of them, likewise: an endpoint that is
being started again is back before."""


@dataclass
class Tries:
    """The tries of one request."""

    max_retries: int
    failed: int = 0
    rate_limited: int = 0

    def delay_s(self, error: ReplyError) -> float | None:
        """Return how long to wait before the next try; None: there is none.

        Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
        Blog, 2015), and never less than the endpoint asked for.
        """
        if not error.may_pass:
            return None
        if error.kind == "rate limited" and self.rate_limited < self.max_retries * RATE_LIMITED_FOR_A_TRY:
            self.rate_limited += 1
        elif self.failed < self.max_retries:
            self.failed += 1
        else:
            return None
        most_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** (self.failed + self.rate_limited - 1))
        return max(error.retry_after_s or 0.0, random.uniform(0.0, most_s))


class Breaker:
    """Notices that an endpoint is gone, so that what waits need not fail one by one."""

    def __init__(self, has_replied: bool = False) -> None:
        self.broken: EndpointError | None = None
        self._failed_for_good = self._failed_tries = self._refused = 0
        self.has_replied = has_replied
        self._last_reply_s = time.monotonic()

    def replied(self) -> None:
        """Count a reply."""
        self._failed_for_good = self._failed_tries = self._refused = 0
        self.has_replied = True
        self._last_reply_s = time.monotonic()

    def failed(self, error: ReplyError, *, for_good: bool) -> None:
        """Count a failure; raises EndpointError when it is one too many."""
        if not error.may_pass:
            return
        if error.kind == "rate limited" and not for_good:
            return  # somebody is there, and says when to come again
        if self._failed_tries == 0:
            self._last_reply_s = time.monotonic()
        self._failed_tries += 1
        self._failed_for_good += for_good
        is_silent = time.monotonic() - self._last_reply_s >= MAX_SILENCE_S
        if self._failed_for_good >= MAX_FAILURES_IN_A_ROW or (
            is_silent and self._failed_tries >= MAX_FAILURES_IN_A_ROW
        ):
            self._break(self._failed_tries, f"{error.kind}: {error}")

    def refused(self, error: EndpointError) -> None:
        """Count a request that alone was refused, or so it seems; raises EndpointError when they all are."""
        self._refused += 1
        if self._refused >= MAX_FAILURES_IN_A_ROW:
            self._break(self._refused, str(error))

    def _break(self, count: int, why: str) -> None:
        self.broken = EndpointError(
            f"the last {count} requests all failed ({why}): "
            "check the endpoint and run the same command again; finished rows are kept"
        )
        raise self.broken
