"""Which ids have passed by: for finding rows that stand twice among very many."""

from __future__ import annotations

ID_BYTES = 16
NUM_TABLES = 256
FIRST_SLOTS = 16
"""Of a table, a power of two."""
EMPTY = bytes(ID_BYTES)


class SeenIds:
    """A set of 16-byte hashes in 21 to 43 bytes each, where Python's own takes about 110.

    Hash tables with open addressing in byte arrays. There are many small ones, by an id's first byte: one
    grows at a time, so that never all ids stand in memory twice.
    """

    def __init__(self) -> None:
        self._tables = [bytearray(FIRST_SLOTS * ID_BYTES) for _ in range(NUM_TABLES)]
        self._counts = [0] * NUM_TABLES
        self._has_zeros = False

    def __len__(self) -> int:
        return sum(self._counts) + self._has_zeros

    def add(self, digest: bytes) -> bool:
        """Take in an id of 16 evenly distributed bytes; return whether it is new."""
        if digest == EMPTY:  # what an empty slot holds
            is_new, self._has_zeros = not self._has_zeros, True
            return is_new
        number = digest[0]
        is_new = _put(self._tables[number], digest)
        if is_new:
            self._counts[number] += 1
            if 4 * self._counts[number] * ID_BYTES > 3 * len(self._tables[number]):
                self._tables[number] = _grown(self._tables[number])
        return is_new


def _put(table: bytearray, digest: bytes) -> bool:
    """Put an id into the first free slot from its own on; return False where it is there already."""
    size = len(table)
    place = int.from_bytes(digest[1:9], "little") * ID_BYTES & (size - 1)
    while (there := table[place : place + ID_BYTES]) != EMPTY:
        if there == digest:
            return False
        place = (place + ID_BYTES) & (size - 1)
    table[place : place + ID_BYTES] = digest
    return True


def _grown(table: bytearray) -> bytearray:
    grown = bytearray(2 * len(table))
    for place in range(0, len(table), ID_BYTES):
        if (digest := bytes(table[place : place + ID_BYTES])) != EMPTY:
            _put(grown, digest)
    return grown
