"""Examples in Arrow's memory are the examples that were put in."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.token_table import SCHEMA, TokenTable, table_of

EXAMPLES = st.builds(
    lambda ids, prompt: Example(tuple(ids), min(prompt, len(ids))),
    st.lists(st.integers(0, 2**31 - 1), max_size=9),
    st.integers(0, 9),
)
ROWS = st.lists(st.one_of(EXAMPLES, st.sampled_from(["empty output", "prompt fills max_length_tokens"])))


@given(st.lists(ROWS, max_size=4))
def test_what_goes_in_comes_out_in_order_however_it_was_cut(chunks: list[list[Example | str]]) -> None:
    table = TokenTable(table_of(chunk) for chunk in chunks)
    rows = [one for chunk in chunks for one in chunk]
    examples = [one for one in rows if isinstance(one, Example)]
    assert list(table) == examples and len(table) == len(examples)
    assert table.dropped.total() == len(rows) - len(examples)
    assert all(table.dropped[reason] == rows.count(reason) for reason in table.dropped)
    assert table[1:3] == examples[1:3]


def test_the_end_is_the_end() -> None:
    table = TokenTable([table_of([Example((1, 2), 1)])])
    assert table[-1] == table[0]
    with pytest.raises(IndexError):
        table[1]


def test_a_slice_of_a_table_is_read_from_its_own_first_row() -> None:
    """Ray Data hands out slices of blocks, whose offsets do not begin at 0."""
    table = table_of([Example((1,), 0), "empty output", Example((2, 3), 1), Example((4,), 1)])
    assert list(TokenTable([table.slice(2)])) == [Example((2, 3), 1), Example((4,), 1)]


def test_a_token_takes_4_bytes_and_no_copy_is_made() -> None:
    table = table_of([Example(tuple(range(1000)), 10)] * 100)
    assert table.schema == SCHEMA and table.nbytes < 4.2 * 100_000
    before = pa.total_allocated_bytes()
    held = TokenTable([table])
    assert pa.total_allocated_bytes() - before < 10_000 and held[99].input_ids[-1] == 999
