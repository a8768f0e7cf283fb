"""Several short examples in one sequence, so that little is spent on padding. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return bins of indices, each bin's lengths at most `capacity` together; what is longer stands alone.

    Best-fit decreasing: the longest first, each into the fullest bin that it still fits into. It needs at
    most 11/9 of the bins that the best packing has, plus 4 (D. S. Johnson et al., "Worst-case performance
    bounds for simple one-dimensional packing algorithms", SIAM J. Comput. 3(4), 1974). The same lengths
    give the same bins; ties go to the lower index and to the older bin.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []
    """What is left in each bin, sorted, with the bin's number."""
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = bisect_left(room, (lengths[index], 0))
        if place == len(room):
            bins.append([index])
            insort(room, (max(0, capacity - lengths[index]), len(bins) - 1))
        else:
            left, number = room.pop(place)
            bins[number].append(index)
            insort(room, (left - lengths[index], number))
    return bins
