"""Tokenising on Ray Data: a large arm is put into tokens once, by all CPUs, and streamed to the workers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.tokenizing import ROWS_PER_TABLE, tokenised

if TYPE_CHECKING:
    from ray.data import Dataset
    from ray.train import DataConfig

DATASET = "tokens"
WORTH_IT_ROWS = 50_000
"""From so many rows on; fewer a worker has in tokens before Ray Data's tasks are up."""


def in_tokens(job: TrainJob, rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Return the arm's rows in tokens (token_table.SCHEMA), in their order, held in Ray's object store.

    A block that is lost with its node is made again.
    """
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        # As text: what stands in columns that nobody asked for may be of any form.
        lines = [{"row": json.dumps(row)} for row in rows]
        blocks = ray.data.from_items(lines, override_num_blocks=math.ceil(len(lines) / ROWS_PER_TABLE))
        return blocks.map_batches(
            _tokenised_block, fn_args=(job,), batch_size=None, batch_format="pyarrow"
        ).materialize()


def streamed() -> Iterator[pa.Table]:
    """Yield all of the tokens, in a worker of Ray Train. They stay in the host's shared memory."""
    import ray.train

    shard = ray.train.get_dataset_shard(DATASET)
    yield from shard.iter_batches(batch_size=None, batch_format="pyarrow")


def every_worker_gets_all() -> DataConfig:
    """Return how the tokens reach the workers: which rows are whose in a step the batch plan says."""
    from ray.train import DataConfig

    options = DataConfig.default_ingest_options()
    options.preserve_order = True
    return DataConfig(datasets_to_split=[], execution_options=options)


def _tokenised_block(block: pa.Table, job: TrainJob) -> pa.Table:
    return tokenised(map(json.loads, block.column("row").to_pylist()), _tokenizer(job.model), job)


@cache
def _tokenizer(model: str) -> Any:
    from alpagasus_ray.train.models import load_tokenizer  # torch comes with it

    return load_tokenizer(model)
