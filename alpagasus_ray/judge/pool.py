"""The judge on Ray Data: a pool of actors through which the rows of any stage stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.judging import Judge, Judgment
from alpagasus_ray.judge.rubrics import Rubric
from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.ray_session import root_cause
from alpagasus_ray.recipe import JudgeSettings

BLOCKS_IN_FLIGHT = 4
"""Blocks that an actor works on at once, so that one block's last slow row leaves no slot idle."""
CPUS_PER_ACTOR = 0.25
"""An actor mostly waits for the judge."""


def judge_rows(
    rows: pa.Table,
    settings: JudgeSettings,
    reader: str,
    rubric: Rubric,
    ledger: str,
) -> Iterator[list[dict[str, Any]]]:
    """Yield judged rows in chunks as replies come in; see Judge.__call__ for their columns.

    Raises UserError when the endpoint can answer no request: everything answered before is in the ledger.
    """
    in_flight = math.ceil(settings.max_concurrency / settings.num_actors)
    rows_per_block = min(max(in_flight, 64), math.ceil(rows.num_rows / settings.num_actors))
    dataset = ray.data.from_arrow(
        [rows.slice(start, rows_per_block) for start in range(0, rows.num_rows, rows_per_block)]
    )
    judged = dataset.map_batches(
        Judge,
        fn_constructor_args=(settings, reader, rubric, ledger, in_flight),
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


def ask_pilot(
    row: dict[str, Any], settings: JudgeSettings, reader: str, rubric: Rubric, ledger: str
) -> Judgment:
    """Return the judgment of one row, asked before anything is started.

    So a bad key or address costs one request and no cluster. The reply goes to the ledger like any
    other. Raises UserError with the endpoint's own words.
    """
    impatient = settings.model_copy(update={"max_retries": min(settings.max_retries, 1)})
    try:
        judge = Judge(impatient, reader, rubric, ledger, max_concurrency=1)
        try:
            judgment = judge.judge_one(row)
        finally:
            judge.close()
    except EndpointError as error:
        raise UserError(str(error)) from error
    if judgment.text is None:
        raise UserError(f"the judge did not answer the first request ({judgment.failure})")
    return judgment
