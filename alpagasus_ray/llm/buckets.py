"""Requests or tokens per minute: a bucket that fills evenly, and from which requests take."""

from __future__ import annotations

BURST_S = 0.25
"""How much of the limits, in seconds of them, may be saved up: what a client's hiccup does not lose, and
what a provider that counts in windows does not mind."""


class Bucket:
    """So many a minute, saved up for BURST_S at most; may go below zero by one large want."""

    def __init__(self, now_s: float) -> None:
        self.level = 0.0
        """What can be taken now."""
        self._filled_s = now_s
        self._is_new = True

    def fill(self, per_minute: float, now_s: float) -> None:
        """Add what has come in since the last time."""
        rate = per_minute / 60
        self._capacity = max(1.0, rate * BURST_S)
        if self._is_new:
            # The first one need not wait; more at once would be above the limit.
            self.level, self._is_new = 1.0, False
        self.level = min(self._capacity, self.level + rate * (now_s - self._filled_s))
        self._filled_s = now_s
        self._rate = rate

    def take(self, amount: float) -> bool:
        """Take so much, if it is there; what is larger than the bucket may take all and more of it."""
        if self.level < min(amount, self._capacity):
            return False
        self.level -= amount
        return True

    def give_back(self, amount: float) -> None:
        """Return what was not used."""
        self.level = min(self._capacity, self.level + amount)

    def wait_s(self, amount: float) -> float:
        """Return how long it takes until so much can be taken."""
        return max(0.0, (min(amount, self._capacity) - self.level) / self._rate)
