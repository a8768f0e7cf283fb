"""One job's dollars: what its clients have spent and reserved, and which of their requests still fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

HEARTBEAT_S = 5.0
"""A client that waits, has requests under way or may spend only so many dollars calls at least this often."""
CLIENT_DEAD_AFTER_S = 60.0
"""After so long without a call what a client had reserved counts as spent: it may have been billed."""
LISTEN_S = HEARTBEAT_S + 1.0
"""After so long every client that is alive has called a budget that was made anew."""
MAX_OVERTAKEN_S = 10.0
"""For so long cheaper requests may overtake one that does not fit at the moment; then they wait for it."""
WAITS_IF_CALLED_WITHIN_S = 3.0
"""A client whose request does not fit asks again far sooner, unless it is gone or all are paused."""
LEAST_USD = 1e-9
"""Less is what adding and subtracting floating-point numbers leaves over."""


@dataclass(frozen=True, slots=True)
class _Said:
    spent_usd: float
    reserved_usd: float
    at_s: float

    @property
    def total_usd(self) -> float:
        return self.spent_usd + self.reserved_usd

    def is_gone(self, now_s: float) -> bool:
        return now_s - self.at_s > CLIENT_DEAD_AFTER_S


@dataclass(frozen=True, slots=True)
class _Overtaken:
    """The request that has waited longest for what others had reserved."""

    client: str
    cost_usd: float
    since_s: float

    def is_overdue(self, now_s: float) -> bool:
        return now_s - self.since_s >= MAX_OVERTAKEN_S


class JobDollars:
    """What the clients of one job have spent and reserved, as each of them says of itself.

    What a client said is kept when it is gone, and replaced when it comes back.
    """

    def __init__(self, born_s: float) -> None:
        """`born_s`: when the account's budget was made, not when it first heard of the job."""
        self.overtaken: _Overtaken | None = None
        self._born_s = born_s
        self._listens = False
        self._gone_before_usd = 0.0
        self._said: dict[str, _Said] = {}

    def __contains__(self, client: str) -> bool:
        return client in self._said

    def hear(self, client: str, spent_usd: float, reserved_usd: float, now_s: float) -> None:
        """Take in what a client says of itself; it holds until the client calls again."""
        self._said[client] = _Said(spent_usd, reserved_usd, now_s)
        first = self.overtaken
        if first and now_s - self._said[first.client].at_s > WAITS_IF_CALLED_WITHIN_S:
            self.overtaken = None

    def hear_of_earlier(self, gone_usd: float, now_s: float) -> None:
        """Take in that an earlier budget dealt with the job, and what it knew of clients that are gone.

        It may have had more clients: until they can have called nothing is to be granted.
        """
        if now_s < self._born_s + LISTEN_S:
            self._listens = True
            self._gone_before_usd = max(self._gone_before_usd, gone_usd)

    def listen_s(self, now_s: float) -> float:
        """Return how much longer clients of an earlier budget may be about to call."""
        return max(0.0, self._born_s + LISTEN_S - now_s) if self._listens else 0.0

    def reserve(self, client: str, cost_usd: float) -> None:
        """Add a request that was granted to what its client has under way."""
        said = self._said[client]
        self._said[client] = replace(said, reserved_usd=said.reserved_usd + cost_usd)

    def total_usd(self) -> float:
        """Return what is spent and reserved."""
        return self._gone_before_usd + sum(said.total_usd for said in self._said.values())

    def gone_usd(self, now_s: float) -> float:
        """Return what is spent and reserved by clients that are gone."""
        gone = (said.total_usd for said in self._said.values() if said.is_gone(now_s))
        return self._gone_before_usd + sum(gone)

    def reserved_usd(self, now_s: float) -> float:
        """Return what may yet turn out cheaper: it is reserved by clients that are there."""
        reserved = sum(said.reserved_usd for said in self._said.values() if not said.is_gone(now_s))
        return reserved if reserved > LEAST_USD else 0.0


class Purse:
    """What one call can have of its job's dollars."""

    def __init__(self, dollars: JobDollars, client: str, max_cost_usd: float | None, now_s: float) -> None:
        self._dollars, self._client, self._now_s = dollars, client, now_s
        self._room_usd = float("inf") if max_cost_usd is None else max_cost_usd - dollars.total_usd()
        self.left_usd = self._room_usd + dollars.reserved_usd(now_s)
        """What there were if nothing that is under way were billed: what costs more will never fit."""
        first = dollars.overtaken
        self._is_closed = first is not None and first.client != client and first.is_overdue(now_s)
        self._is_overtaken = False

    def covers(self, cost_usd: float) -> bool:
        """Return whether so much can be had now; where not, others may overtake for a while."""
        if cost_usd > self.left_usd or self._is_closed:
            return False
        if cost_usd <= self._room_usd:
            return True
        first = self._dollars.overtaken
        if first is None:
            first = self._dollars.overtaken = _Overtaken(self._client, cost_usd, self._now_s)
        if first.client == self._client:
            self._is_overtaken = True
            self._is_closed = first.is_overdue(self._now_s)
        return False

    def take(self, cost_usd: float) -> None:
        """Reserve so much."""
        self._room_usd -= cost_usd
        self._dollars.reserve(self._client, cost_usd)
        first = self._dollars.overtaken
        if first is not None and first.client == self._client and cost_usd >= first.cost_usd:
            self._dollars.overtaken = None

    def close(self) -> None:
        """Say that all of the client's requests were looked at: one that is not there waits no more."""
        first = self._dollars.overtaken
        if first is not None and first.client == self._client and not self._is_overtaken:
            self._dollars.overtaken = None
