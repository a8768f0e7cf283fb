"""An arm's rows in tokens, whoever makes them: each worker by itself, or Ray Data for all. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from alpagasus_ray.text_files import read_text
from alpagasus_ray.train.examples import each_example
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.token_table import table_of

ROWS_PER_TABLE = 1000


def read_rows(job: TrainJob) -> list[dict[str, Any]]:
    """Return the arm's rows as `select` wrote them."""
    rows: list[dict[str, Any]] = json.loads(read_text(job.train_file))
    return rows


def tokenised(rows: Iterable[Mapping[str, Any]], tokenizer: Any, job: TrainJob) -> pa.Table:
    """Return rows of the arm in tokens (token_table.SCHEMA)."""
    settings = job.settings
    return table_of(
        each_example(rows, tokenizer, settings.max_length_tokens, job.row_form, settings.template)
    )


def tokenised_arm(job: TrainJob, tokenizer: Any) -> Iterator[pa.Table]:
    """Yield all rows of the arm in tokens, in their order."""
    rows = read_rows(job)
    for start in range(0, len(rows), ROWS_PER_TABLE):
        yield tokenised(rows[start : start + ROWS_PER_TABLE], tokenizer, job)
