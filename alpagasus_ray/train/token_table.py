"""Examples in Arrow's memory: 4 bytes a token, and where Ray's workers share a host, there once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from alpagasus_ray.train.examples import Example, ExampleSequence

SCHEMA = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("num_prompt_tokens", pa.int32()), ("dropped", pa.string())]
)
"""A row of the arm: its example, or the reason for which there is none."""


def table_of(made: Iterable[Example | str]) -> pa.Table:
    """Return what examples.each_example yields, one row each."""
    ids: list[tuple[int, ...] | None] = []
    num_prompt_tokens: list[int | None] = []
    dropped: list[str | None] = []
    for one in made:
        example = None if isinstance(one, str) else one
        ids.append(example.input_ids if example else None)
        num_prompt_tokens.append(example.num_prompt_tokens if example else None)
        dropped.append(one if isinstance(one, str) else None)
    return pa.table([ids, num_prompt_tokens, dropped], schema=SCHEMA)


class TokenTable(ExampleSequence):
    """The examples of tables that `table_of` made, in their order; nothing is copied."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self.dropped: Counter[str] = Counter()
        """How many rows have no example, by reason."""
        self._tokens: list[np.ndarray] = []
        """Of each record batch, all tokens in a row."""
        blocks, starts, ends, prompts = [], [], [], []
        for batch in (batch for table in tables for batch in table.to_batches()):
            reasons, ids = batch.column("dropped"), batch.column("input_ids")
            self.dropped.update(reasons.drop_null().to_pylist())
            kept = np.flatnonzero(reasons.is_null().to_numpy(zero_copy_only=False))
            offsets = ids.offsets.to_numpy()
            blocks.append(np.full(len(kept), len(self._tokens), dtype=np.int32))
            starts.append(offsets[:-1][kept])
            ends.append(offsets[1:][kept])
            prompts.append(batch.column("num_prompt_tokens").take(pa.array(kept)).to_numpy())
            self._tokens.append(ids.values.to_numpy())
        self._blocks, self._starts, self._ends, self._prompts = (
            np.concatenate(parts) if parts else np.empty(0, np.int32)
            for parts in (blocks, starts, ends, prompts)
        )

    def __len__(self) -> int:
        return len(self._blocks)

    def at(self, place: int) -> Example:
        """Return one example; raises IndexError beyond the last."""
        tokens = self._tokens[self._blocks[place]]
        ids = tokens[self._starts[place] : self._ends[place]]
        return Example(tuple(ids.tolist()), int(self._prompts[place]))
