"""Packing: everything once, nothing too full, and few bins."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.train.packing import pack_best_fit

LENGTHS = st.lists(st.integers(1, 60), max_size=80)


@settings(deadline=None, derandomize=True)
@given(LENGTHS, st.integers(1, 100))
def test_everything_is_packed_once_and_fits(lengths: list[int], capacity: int) -> None:
    bins = pack_best_fit(lengths, capacity)
    assert sorted(index for one in bins for index in one) == list(range(len(lengths)))
    for one in bins:
        assert len(one) == 1 or sum(lengths[index] for index in one) <= capacity


@settings(deadline=None, derandomize=True)
@given(LENGTHS, st.integers(60, 100))
def test_no_two_bins_would_fit_into_one(lengths: list[int], capacity: int) -> None:
    sizes = sorted(sum(lengths[index] for index in one) for one in pack_best_fit(lengths, capacity))
    assert len(sizes) < 2 or sizes[0] + sizes[1] > capacity
    assert len(sizes) <= math.ceil(11 / 9 * math.ceil(sum(lengths) / capacity)) + 4 or len(sizes) <= len(
        [length for length in lengths if 2 * length > capacity]
    ) + math.ceil(sum(lengths) / capacity)


@pytest.mark.parametrize(
    ("lengths", "capacity", "bins"),
    [
        ([], 10, []),
        ([3], 10, [[0]]),
        ([12], 10, [[0]]),
        ([5, 5, 5, 5], 10, [[0, 1], [2, 3]]),
        ([4, 8, 1, 4, 2, 1], 10, [[1, 4], [0, 3, 2, 5]]),
        ([6, 5, 4], 10, [[0, 2], [1]]),
    ],
)
def test_each_goes_where_it_leaves_the_least_room(
    lengths: list[int], capacity: int, bins: list[list[int]]
) -> None:
    assert pack_best_fit(lengths, capacity) == bins
