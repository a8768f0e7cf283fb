"""What an account may still be asked: requests and tokens per minute, and dollars, dealt out to many clients.

Pure bookkeeping with the time handed in. One of these per account lives in an actor of its own (llm/
budget_actor.py), or, where one process asks alone, in that process.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from alpagasus_ray.llm.buckets import BURST_S, Bucket
from alpagasus_ray.llm.chat import RateLimits
from alpagasus_ray.llm.job_dollars import CLIENT_DEAD_AFTER_S, JobDollars, Purse

UNLIMITED_FOR_S = 1.0
"""Without limits a client asks again after this, so that a pause reaches everybody within it."""
HUNGRY_FOR_S = 3.0
"""A client that got less than it wanted, and called so lately, is left a share."""
MAX_WAIT_S = 1.0
MAX_PAUSE_S = 3600.0
SWEEP_EVERY_S = 1.0
"""How often is looked for clients that are gone: at each call it would be work for all of them."""
RESET_PAUSE_S = 2.0
"""How long is waited at most when a response says that nothing is left: limits fill up all the time."""


@dataclass(frozen=True, slots=True)
class Want:
    """What one request may use: reserved first, and the difference given back."""

    tokens: int
    """Prompt and completion, as the provider's limiter counts them."""
    cost_usd: float
    """A bound that the bill cannot exceed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job's recipe allows; None: no limit of one's own."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What a client says and wants: all of its state, so that a budget that died can be made anew."""

    client: str
    job: str
    limits: Limits
    wants: tuple[Want, ...] = ()
    spent_usd: float = 0.0
    """By this client, from its start."""
    reserved_usd: float = 0.0
    """For requests that are under way, from its start."""
    returned_tokens: int = 0
    """Reserved and not used, since the last call; negative where more was used."""
    gone_usd: float = 0.0
    """What the budget said last of the job's clients that are gone."""
    was_dealt: bool = False
    """The client had a deal before, be it from a budget that died."""
    seen: RateLimits | None = None
    pause_s: float = 0.0
    """How much longer, as far as the client knows, the provider asked to be left alone."""
    num_retrying: int = 0
    """Requests that failed and are going to be sent again."""
    num_in_flight: int = 0
    num_rate_limited: int = 0
    """Requests that the endpoint had no room for, from the client's start."""


@dataclass(frozen=True, slots=True)
class Deal:
    """What a client gets."""

    granted: tuple[int, ...] = ()
    """The places of the wants that it may have."""
    wait_s: float = 0.0
    """When to ask for the others."""
    unlimited_s: float = 0.0
    """For how long it need not ask at all."""
    left_usd: float = float("inf")
    """A want that costs more will not be granted any more, whatever comes of what is under way."""
    gone_usd: float = 0.0
    """Spent, or perhaps billed, by clients of the job that are gone: to be told to a budget made anew."""
    paused_s: float = 0.0
    """How much longer the provider asked to be left alone."""

    @property
    def num_granted(self) -> int:
        """How many wants it may have."""
        return len(self.granted)


@dataclass(frozen=True, slots=True)
class Standing:
    """What keeps an account's clients waiting."""

    paused_s: float
    """How much longer the provider asked to be left alone."""
    num_retrying: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What the clients of one job are doing."""

    num_in_flight: int = 0
    num_retrying: int = 0
    num_rate_limited: int = 0
    """Since the job's start, clients that are gone included; a budget made anew knows only of those alive."""


@dataclass
class _Client:
    limits: Limits
    called_s: float
    num_retrying: int
    job: str = ""
    num_in_flight: int = 0
    served_s: float = 0.0
    is_hungry: bool = False


@dataclass
class AccountBudget:
    """The limits of one account, and who has used how much of them."""

    now_s: float
    learnt_requests_per_minute: float | None = None
    learnt_tokens_per_minute: float | None = None
    paused_until_s: float = 0.0
    _clients: dict[str, _Client] = field(default_factory=dict)
    _dollars: dict[str, JobDollars] = field(default_factory=dict)
    """By job."""
    _rate_limited: dict[tuple[str, str], int] = field(default_factory=dict)
    """By job and client."""
    _wanted: dict[str, float | None] = field(default_factory=dict)
    """The lowest limits of all clients by name, where they are known still."""

    def __post_init__(self) -> None:
        self._requests, self._tokens = Bucket(self.now_s), Bucket(self.now_s)
        self._swept_s = self.now_s

    def deal(self, call: Call, now_s: float) -> Deal:
        """Return what a client gets of its wants now.

        A budget made anew grants none of a job's limited dollars before all the clients that an earlier
        budget had can have called: each vouches for itself only.
        """
        self._take_in(call, now_s)
        by_requests, by_tokens = self._fill(call, now_s)
        dollars, is_limited = self._dollars[call.job], call.limits.max_cost_usd is not None
        paused_s = max(0.0, self.paused_until_s - now_s)
        wait_s = max(paused_s, dollars.listen_s(now_s) if is_limited else 0.0)
        if wait_s > 0:
            deal = Deal(wait_s=wait_s)
        elif not (by_requests or by_tokens or is_limited):
            deal = Deal(tuple(range(len(call.wants))), unlimited_s=UNLIMITED_FOR_S)
        else:
            deal = self._grant(call, by_requests, by_tokens, now_s)
        gone_usd = dollars.gone_usd(now_s) if is_limited else 0.0
        return replace(deal, gone_usd=gone_usd, paused_s=paused_s)

    def standing(self, now_s: float) -> Standing:
        """Return what keeps the clients waiting."""
        retrying = sum(client.num_retrying for client in self._clients.values())
        return Standing(max(0.0, self.paused_until_s - now_s), retrying)

    def activity(self, job: str) -> Activity:
        """Return what a job's clients are doing, as they last said."""
        clients = [client for client in self._clients.values() if client.job == job]
        return Activity(
            sum(client.num_in_flight for client in clients),
            sum(client.num_retrying for client in clients),
            sum(count for (its_job, _), count in self._rate_limited.items() if its_job == job),
        )

    def spent_usd(self, job: str) -> float:
        """Return what a job has spent and reserved."""
        return self._dollars[job].total_usd() if job in self._dollars else 0.0

    def _fill(self, call: Call, now_s: float) -> tuple[bool, bool]:
        """Return whether requests and whether tokens are limited, with both up to date."""
        requests_per_minute = self._lowest("requests_per_minute", self.learnt_requests_per_minute)
        tokens_per_minute = self._lowest("tokens_per_minute", self.learnt_tokens_per_minute)
        if requests_per_minute is not None:
            self._requests.fill(requests_per_minute, now_s)
        if tokens_per_minute is not None:
            self._tokens.fill(tokens_per_minute, now_s)
            self._tokens.give_back(call.returned_tokens)
        return requests_per_minute is not None, tokens_per_minute is not None

    def _grant(self, call: Call, by_requests: bool, by_tokens: bool, now_s: float) -> Deal:
        client, granted = self._clients[call.client], list[int]()
        share = self._fair_share(call, by_requests, by_tokens, now_s)
        purse = Purse(self._dollars[call.job], call.client, call.limits.max_cost_usd, now_s)
        for place, want in enumerate(call.wants):
            if not purse.covers(want.cost_usd):
                continue
            wait_s = self._requests.wait_s(1) if by_requests else 0.0
            wait_s = max(wait_s, self._tokens.wait_s(want.tokens) if by_tokens else 0.0)
            if wait_s > 0 or len(granted) >= share:
                client.is_hungry = True
                wait_s = min(max(wait_s, BURST_S / 10), MAX_WAIT_S)
                return Deal(tuple(granted), wait_s=wait_s, left_usd=purse.left_usd)
            client.served_s = now_s
            if by_requests:
                self._requests.take(1)
            if by_tokens:
                self._tokens.take(want.tokens)
            purse.take(want.cost_usd)
            granted.append(place)
        purse.close()
        # What does not want for requests or tokens waits for dollars, and needs no share of the others kept.
        client.is_hungry = False
        wait_s = BURST_S if len(granted) < len(call.wants) else 0.0
        return Deal(tuple(granted), wait_s=wait_s, left_usd=purse.left_usd)

    def _fair_share(self, call: Call, by_requests: bool, by_tokens: bool, now_s: float) -> int:
        """Return how many wants a client may have granted now, so that others who wait get theirs."""
        client = self._clients[call.client]
        hungry = [
            other
            for name, other in self._clients.items()
            if name != call.client and other.is_hungry and now_s - other.called_s <= HUNGRY_FOR_S
        ]
        if not hungry or not call.wants:
            return len(call.wants)
        mean_tokens = sum(want.tokens for want in call.wants) / len(call.wants)
        there = self._requests.level if by_requests else float("inf")
        if by_tokens and mean_tokens:
            there = min(there, self._tokens.level / mean_tokens)
        if there == float("inf"):
            return len(call.wants)
        ahead = sum(other.served_s < client.served_s for other in hungry)
        return max(int(there / (1 + len(hungry))), 0 if ahead and there < 1 + ahead else 1)

    def _take_in(self, call: Call, now_s: float) -> None:
        client = self._clients.get(call.client)
        if client is None or client.limits != call.limits:
            self._wanted.clear()
        client = self._clients.setdefault(call.client, _Client(call.limits, now_s, 0))
        client.limits, client.called_s, client.job = call.limits, now_s, call.job
        client.num_retrying, client.num_in_flight = call.num_retrying, call.num_in_flight
        if call.num_rate_limited:
            self._rate_limited[call.job, call.client] = call.num_rate_limited
        self._sweep(now_s)
        dollars = self._dollars.setdefault(call.job, JobDollars(self.now_s))
        is_old = call.was_dealt or call.spent_usd > 0 or call.reserved_usd > 0
        if is_old and call.client not in dollars:
            dollars.hear_of_earlier(call.gone_usd, now_s)
        dollars.hear(call.client, call.spent_usd, call.reserved_usd, now_s)
        pause_s = min(max(call.pause_s, _pause_seen(call.seen)), MAX_PAUSE_S)
        self.paused_until_s = max(self.paused_until_s, now_s + pause_s if pause_s > 0 else 0.0)
        if call.seen is not None:
            self.learnt_requests_per_minute = call.seen.requests_per_minute or self.learnt_requests_per_minute
            self.learnt_tokens_per_minute = call.seen.tokens_per_minute or self.learnt_tokens_per_minute

    def _sweep(self, now_s: float) -> None:
        """Forget the clients that are gone, now and then."""
        if now_s - self._swept_s < SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        self._wanted.clear()
        for name, client in list(self._clients.items()):
            if now_s - client.called_s > CLIENT_DEAD_AFTER_S:
                del self._clients[name]

    def _lowest(self, name: str, learnt: float | None) -> float | None:
        if name not in self._wanted:
            limits = [getattr(client.limits, name) for client in self._clients.values()]
            self._wanted[name] = min((limit for limit in limits if limit is not None), default=None)
        return min((limit for limit in (self._wanted[name], learnt) if limit is not None), default=None)


def _pause_seen(seen: RateLimits | None) -> float:
    if seen is None:
        return 0.0
    requests_s = seen.requests_reset_s if seen.requests_left == 0 else None
    tokens_s = seen.tokens_reset_s if seen.tokens_left == 0 else None
    return min(max(requests_s or 0.0, tokens_s or 0.0), RESET_PAUSE_S)
