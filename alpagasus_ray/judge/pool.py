"""The judge on Ray Data: a pool of actors through which the rows of any stage stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.jobs import JudgeJob
from alpagasus_ray.judge.judging import Judge, Judgment
from alpagasus_ray.llm.budget_actor import budget_actor, cluster_dealer
from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_upkeep import tidy
from alpagasus_ray.ray_session import root_cause

ROWS_PER_BLOCK = 256
BLOCKS_IN_FLIGHT = 16
"""Blocks that an actor works on at once: the slow rows of some keep no slot idle, since the others have
plenty that wait for one."""
CPUS_PER_ACTOR = 0.25
"""An actor mostly waits for the judge."""


def blocks_of(rows: pa.Table, num_actors: int) -> list[pa.Table]:
    """Return rows cut into blocks, such that each actor gets some."""
    size = max(1, min(ROWS_PER_BLOCK, math.ceil(rows.num_rows / num_actors)))
    return [rows.slice(start, size) for start in range(0, rows.num_rows, size)]


def judge_rows(blocks: Sequence[pa.Table], job: JudgeJob) -> Iterator[list[dict[str, Any]]]:
    """Yield judged rows in chunks as replies come in; see Judge.__call__ for their columns.

    Raises UserError when the endpoint can answer no request: everything answered before is in the ledger.
    """
    settings = job.settings
    budget = budget_actor(job.account)  # held here, so that it lives as long as this loop
    on_cluster = replace(job, dealer=partial(cluster_dealer, job.account))
    judged = ray.data.from_arrow(list(blocks)).map_batches(
        Judge,
        fn_constructor_args=(on_cluster, math.ceil(settings.max_concurrency / settings.num_actors)),
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        num_cpus=CPUS_PER_ACTOR,
        compute=ray.data.ActorPoolStrategy(
            size=settings.num_actors,
            max_tasks_in_flight_per_actor=2 * BLOCKS_IN_FLIGHT,
            max_concurrent_calls_per_actor=BLOCKS_IN_FLIGHT,
            enable_true_multi_threading=True,
        ),
    )
    try:
        for batch in judged.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield batch.to_pylist()
    except RayError as error:
        cause = root_cause(error)
        if isinstance(cause, EndpointError | UserError):
            raise UserError(str(cause)) from error
        raise
    finally:
        del budget


def ask_pilot(row: dict[str, Any], job: JudgeJob) -> Judgment:
    """Return the judgment of one row, asked before anything is started.

    So a bad key or address costs one request and no cluster. The reply goes to the ledger like any
    other. Raises UserError with the endpoint's own words, or where replies could not be kept.
    """
    settings = job.settings
    tidy(job.ledger)
    Ledger(job.ledger).prepare()
    impatient = settings.model_copy(update={"max_retries": min(settings.max_retries, 1)})
    try:
        judge = Judge(replace(job, settings=impatient), max_concurrency=1)
        try:
            judgment = judge.judge_one(row)
        finally:
            judge.close()
    except EndpointError as error:
        raise UserError(str(error)) from error
    if judgment.text is None:
        raise UserError(f"the judge did not answer the first request ({judgment.failure})")
    return judgment
