"""Rows that are handed on together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.judge.portions import portions

sizes = st.integers(1, 50)


@given(st.integers(0, 2000), sizes, st.none() | sizes)
def test_each_row_is_in_one_portion_and_they_are_in_order(
    num_rows: int, at_most: int, first: int | None
) -> None:
    rows = list(range(num_rows))
    parts = [rows[portion] for portion in portions(num_rows, at_most, first)]
    assert [row for part in parts for row in part] == rows
    assert all(1 <= len(part) <= at_most for part in parts)


@given(st.integers(1, 5000), st.integers(1, 100), st.integers(1, 1000), st.data())
def test_work_that_ends_early_has_handed_on_at_most_half_as_many_again_and_the_first_portion(
    num_rows: int, first: int, at_most: int, data: st.DataObject
) -> None:
    needed = data.draw(st.integers(1, num_rows))
    ends = [portion.stop for portion in portions(num_rows, at_most, first)]
    assert min(end for end in ends if end >= needed) < 1.5 * needed + first


def test_the_sizes() -> None:
    assert list(portions(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(portions(600, 200, 64)) == [
        slice(0, 64),
        slice(64, 160),
        slice(160, 304),
        slice(304, 504),
        slice(504, 600),
    ]
