"""An account's budget as one named actor of the cluster, shared by all jobs that name the account."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import ray
from ray.exceptions import RayActorError

from alpagasus_ray.llm.allowance import Dealer
from alpagasus_ray.llm.budget import AccountBudget, Activity, Call, Deal, Standing
from alpagasus_ray.llm.chat import EndpointError

NAMESPACE = "alpagasus"
MAX_TRIES = 20
RETRY_AFTER_S = 0.25


class BudgetActor:
    """Holds the books of one account. Dead, it is made anew by the next client that calls.

    Not detached, so that none is left behind on a cluster: it dies with the driver or actor that made it,
    and what its clients say makes up for it within seconds. That is needed anyway, where a node dies.
    """

    def __init__(self) -> None:
        self._budget = AccountBudget(time.monotonic())

    def deal(self, call: Call) -> Deal:
        """Return what a client gets of its wants now."""
        return self._budget.deal(call, time.monotonic())

    def standing(self) -> Standing:
        """Return what keeps the clients waiting."""
        return self._budget.standing(time.monotonic())

    def activity(self, job: str) -> Activity:
        """Return what a job's clients are doing."""
        return self._budget.activity(job)


def budget_actor(account: str) -> Any:
    """Return the handle of an account's actor, made if there is none; it lives as long as its first user."""
    return (
        ray.remote(BudgetActor)
        .options(name=f"budget-{account}", namespace=NAMESPACE, get_if_exists=True, num_cpus=0)
        .remote()
    )


def cluster_dealer(account: str) -> Dealer:
    """Return a dealer that survives the death of the account's actor: a call holds a client's whole state."""
    actor: Any = None

    async def deal(call: Call) -> Deal:
        nonlocal actor
        for _ in range(MAX_TRIES):
            try:
                actor = actor or budget_actor(account)
                answer: Deal = await actor.deal.remote(call)
                return answer
            except (RayActorError, ValueError):  # ValueError: it died while its name was looked up
                actor = None
                await asyncio.sleep(RETRY_AFTER_S)
        raise EndpointError(
            f"the budget of account {account} cannot be reached: is the cluster shutting down?"
        )

    return deal
