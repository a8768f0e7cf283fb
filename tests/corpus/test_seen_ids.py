"""Ids that have passed by: found again, all of them, and no others."""

from __future__ import annotations

import hashlib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus.seen_ids import EMPTY, SeenIds

# Few different ones, of which many want the same slot.
DIGESTS = st.builds(lambda start, end: start + EMPTY[:14] + end, *[st.binary(min_size=1, max_size=1)] * 2)


@given(st.lists(DIGESTS, max_size=300))
def test_it_is_a_set(digests: list[bytes]) -> None:
    seen, plain = SeenIds(), set[bytes]()
    for digest in digests:
        assert seen.add(digest) == (digest not in plain)
        plain.add(digest)
        assert len(seen) == len(plain)


def test_many_ids_take_less_than_half_of_a_sets_memory() -> None:
    count = 100_000

    def digests() -> list[bytes]:
        return [hashlib.blake2b(b"%d" % number, digest_size=16).digest() for number in range(count)]

    seen = SeenIds()
    tracemalloc.start()
    try:
        for number in range(count):
            assert seen.add(hashlib.blake2b(b"%d" % number, digest_size=16).digest())
        held_bytes, _ = tracemalloc.get_traced_memory()
        there = set(digests())
        set_bytes = tracemalloc.get_traced_memory()[0] - held_bytes
    finally:
        tracemalloc.stop()
    assert held_bytes < 45 * count
    assert 2 * held_bytes < set_bytes
    assert not any(seen.add(digest) for digest in there)
    assert len(seen) == count
