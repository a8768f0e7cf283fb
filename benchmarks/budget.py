"""An account's budget: how many calls one actor answers a second, and how many requests it gives leave for.

    python -m benchmarks.budget --clients 1 8 64 --known 8 64 512

The calls are those of real clients (llm/allowance.py), with a limit of requests and of tokens a
minute that is never reached. First the bookkeeping alone, in one process, with so many clients known; then
the named actor on Ray, asked by clients in one process, each of which waits for its answer as it always does.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

from alpagasus_ray.llm.allowance import MAX_WANTS
from alpagasus_ray.llm.budget import AccountBudget, Call, Limits, Want

ACCOUNT = "benchmark"
LIMITS = Limits(requests_per_minute=1e12, tokens_per_minute=1e15)
WANTS = (Want(tokens=600, cost_usd=0.0),) * MAX_WANTS
CALLS = 400
SECONDS = 5.0


def call_of(client: str, limits: Limits, wants: int) -> Call:
    """Return what a client says that wants so many requests."""
    return Call(client, "job", limits, WANTS[:wants], num_in_flight=wants)


def bookkeeping_us(known: int, wants: int, limits: Limits) -> float:
    """Return the microseconds of CPU time of one call, with so many clients known."""
    budget = AccountBudget(0.0)
    clients = [f"client-{number}" for number in range(known)]
    for client in clients:
        budget.deal(call_of(client, limits, 0), 1.0)
    started_s = time.process_time()
    for number in range(CALLS):
        deal = budget.deal(call_of(clients[number % known], limits, wants), 1.0 + number / CALLS)
        assert deal.num_granted == wants
    return 1e6 * (time.process_time() - started_s) / CALLS


async def calls_per_s(clients: int, wants: int) -> float:
    """Return how many calls a second the actor answers, asked by so many clients at once."""
    from alpagasus_ray.llm.budget_actor import cluster_dealer

    async def ask(client: str) -> int:
        dealer, answered = cluster_dealer(ACCOUNT), 0
        await dealer(call_of(client, LIMITS, 0))
        while time.perf_counter() < until_s:
            await dealer(call_of(client, LIMITS, wants))
            answered += 1
        return answered

    until_s = time.perf_counter() + SECONDS
    answered = await asyncio.gather(*(ask(f"client-{number}") for number in range(clients)))
    return sum(answered) / SECONDS


def of_actor(clients: Sequence[int]) -> None:
    """Print a table of the actor's answers."""
    import ray

    from alpagasus_ray.llm.budget_actor import NAMESPACE, BudgetActor

    print(f"\n{'clients':>8}{'wants':>7}{'calls/s':>10}{'requests/s':>12}")
    ray.init("local", include_dashboard=False, log_to_driver=False)  # not one that runs here by chance
    held = ray.remote(BudgetActor).options(name=f"budget-{ACCOUNT}", namespace=NAMESPACE, num_cpus=0).remote()
    ray.get(held.standing.remote())  # clients find it by its name; it lives as long as it is held here
    for count in clients:
        for wants in (1, 32, MAX_WANTS):
            rate = asyncio.run(calls_per_s(count, wants))
            print(f"{count:>8}{wants:>7}{rate:>10,.0f}{rate * wants:>12,.0f}", flush=True)
    ray.shutdown()


def main() -> None:
    """Measure both and print a table of each."""
    parser = argparse.ArgumentParser(description="An account's budget: calls and requests a second.")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--known", type=int, nargs="+", default=[8, 64, 512])
    args = parser.parse_args()
    print(f"{'known':>8}{'wants':>7}{'no limits':>13}{'limits':>11}{'dollars too':>14}")
    dollars = Limits(LIMITS.requests_per_minute, LIMITS.tokens_per_minute, 1e9)
    for known in args.known:
        for wants in (1, MAX_WANTS):
            us = [bookkeeping_us(known, wants, limits) for limits in (Limits(), LIMITS, dollars)]
            print(f"{known:>8}{wants:>7}" + "".join(f"{one:>10,.0f} us" for one in us), flush=True)
    of_actor(args.clients)


if __name__ == "__main__":
    main()
