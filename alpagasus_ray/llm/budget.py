"""What an account may still be asked: requests and tokens per minute, and dollars, dealt out to many clients.

Pure bookkeeping with the time handed in. One of these per account lives in an actor of its own (llm/
budget_actor.py), or, where one process asks alone, in that process.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from alpagasus_ray.llm.chat import RateLimits

BURST_S = 0.25
"""How much of the limits, in seconds of them, may be saved up: what a client's hiccup does not lose, and
what a provider that counts in windows does not mind."""
UNLIMITED_FOR_S = 1.0
"""Without limits a client asks again after this, so that a pause reaches everybody within it."""
CLIENT_DEAD_AFTER_S = 60.0
HUNGRY_FOR_S = 3.0
"""A client that got less than it wanted, and called so lately, is left a share."""
MAX_WAIT_S = 1.0
LEAST_USD = 1e-9
"""Less is what adding and subtracting floating-point numbers leaves over."""
MAX_PAUSE_S = 3600.0
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
    seen: RateLimits | None = None
    pause_s: float = 0.0
    """How long the provider asked to be left alone."""
    num_retrying: int = 0
    """Requests that failed and are going to be sent again."""


@dataclass(frozen=True, slots=True)
class Deal:
    """What a client gets."""

    num_granted: int
    """So many of its wants, the first ones."""
    wait_s: float = 0.0
    """When to ask for the others."""
    unlimited_s: float = 0.0
    """For how long it need not ask at all."""
    is_spent: bool = False
    """The job's dollars are used up: no other want of this size will be granted."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What keeps an account's clients waiting."""

    paused_s: float
    """How much longer the provider asked to be left alone."""
    num_retrying: int


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


@dataclass
class _Client:
    job: str
    limits: Limits
    spent_usd: float
    reserved_usd: float
    called_s: float
    served_s: float
    is_hungry: bool
    num_retrying: int


@dataclass
class AccountBudget:
    """The limits of one account, and who has used how much of them."""

    now_s: float
    learnt_requests_per_minute: float | None = None
    learnt_tokens_per_minute: float | None = None
    paused_until_s: float = 0.0
    _clients: dict[str, _Client] = field(default_factory=dict)
    _written_off_usd: dict[str, float] = field(default_factory=dict)
    """By job: what clients that died had spent and reserved; it may have been billed."""

    def __post_init__(self) -> None:
        self._requests, self._tokens = Bucket(self.now_s), Bucket(self.now_s)

    def deal(self, call: Call, now_s: float) -> Deal:
        """Return what a client gets of its wants now."""
        self._take_in(call, now_s)
        if self.paused_until_s > now_s:
            return Deal(0, wait_s=self.paused_until_s - now_s)
        requests_per_minute = self._lowest("requests_per_minute", self.learnt_requests_per_minute)
        tokens_per_minute = self._lowest("tokens_per_minute", self.learnt_tokens_per_minute)
        if requests_per_minute is None and tokens_per_minute is None and call.limits.max_cost_usd is None:
            return Deal(len(call.wants), unlimited_s=UNLIMITED_FOR_S)
        if requests_per_minute is not None:
            self._requests.fill(requests_per_minute, now_s)
        if tokens_per_minute is not None:
            self._tokens.fill(tokens_per_minute, now_s)
            self._tokens.give_back(call.returned_tokens)
        by_requests, by_tokens = requests_per_minute is not None, tokens_per_minute is not None
        deal = self._grant(call, by_requests, by_tokens, now_s)
        self._clients[call.client].is_hungry = deal.num_granted < len(call.wants)
        return deal

    def standing(self, now_s: float) -> Standing:
        """Return what keeps the clients waiting."""
        retrying = sum(client.num_retrying for client in self._clients.values())
        return Standing(max(0.0, self.paused_until_s - now_s), retrying)

    def spent_usd(self, job: str) -> float:
        """Return what a job has spent and reserved."""
        clients = (client for client in self._clients.values() if client.job == job)
        return self._written_off_usd.get(job, 0.0) + sum(one.spent_usd + one.reserved_usd for one in clients)

    def _grant(self, call: Call, by_requests: bool, by_tokens: bool, now_s: float) -> Deal:
        client = self._clients[call.client]
        share = self._fair_share(call, by_requests, by_tokens, now_s)
        room_usd = float("inf")
        if call.limits.max_cost_usd is not None:
            room_usd = call.limits.max_cost_usd - self.spent_usd(call.job)
        for number, want in enumerate(call.wants):
            if want.cost_usd > room_usd:
                # What is under way may turn out cheaper than it was reserved for.
                of_job = [one for one in self._clients.values() if one.job == call.job]
                is_spent = not any(one.reserved_usd > LEAST_USD for one in of_job)
                return Deal(number, wait_s=BURST_S, is_spent=is_spent)
            wait_s = self._requests.wait_s(1) if by_requests else 0.0
            wait_s = max(wait_s, self._tokens.wait_s(want.tokens) if by_tokens else 0.0)
            if wait_s > 0 or number >= share:
                return Deal(number, wait_s=min(max(wait_s, BURST_S / 10), MAX_WAIT_S))
            client.served_s = now_s
            if by_requests:
                self._requests.take(1)
            if by_tokens:
                self._tokens.take(want.tokens)
            room_usd -= want.cost_usd
            client.reserved_usd += want.cost_usd
        return Deal(len(call.wants))

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
        before = self._clients.get(call.client)
        served_s, is_hungry = (before.served_s, before.is_hungry) if before else (0.0, False)
        self._clients[call.client] = _Client(
            call.job,
            call.limits,
            call.spent_usd,
            call.reserved_usd,
            now_s,
            served_s,
            is_hungry,
            call.num_retrying,
        )
        for name, client in list(self._clients.items()):
            if now_s - client.called_s > CLIENT_DEAD_AFTER_S:
                del self._clients[name]
                lost = client.spent_usd + client.reserved_usd
                self._written_off_usd[client.job] = self._written_off_usd.get(client.job, 0.0) + lost
        pause_s = min(max(call.pause_s, _pause_seen(call.seen)), MAX_PAUSE_S)
        self.paused_until_s = max(self.paused_until_s, now_s + pause_s if pause_s > 0 else 0.0)
        if call.seen is not None:
            self.learnt_requests_per_minute = call.seen.requests_per_minute or self.learnt_requests_per_minute
            self.learnt_tokens_per_minute = call.seen.tokens_per_minute or self.learnt_tokens_per_minute

    def _lowest(self, name: str, learnt: float | None) -> float | None:
        limits = [getattr(client.limits, name) for client in self._clients.values()]
        return min((limit for limit in (*limits, learnt) if limit is not None), default=None)


def _pause_seen(seen: RateLimits | None) -> float:
    if seen is None:
        return 0.0
    requests_s = seen.requests_reset_s if seen.requests_left == 0 else None
    tokens_s = seen.tokens_reset_s if seen.tokens_left == 0 else None
    return min(max(requests_s or 0.0, tokens_s or 0.0), RESET_PAUSE_S)
