"""Lines out of a stream of bytes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus import source_files
from alpagasus_ray.corpus.source_files import read_lines


@given(st.text("a\n\r", max_size=20), st.integers(1, 9))
def test_lines_are_those_of_the_whole_text(text: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_files, "CHUNK_BYTES", chunk)
        found = list(read_lines(io.BytesIO(text.encode())))
    expected = list(io.BytesIO(text.encode()))
    assert found == list(enumerate(expected, start=1))


def test_a_line_too_long_to_hold_is_none_and_the_next_ones_come() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_files, "CHUNK_BYTES", 4)
        patch.setattr(source_files, "MAX_ROW_BYTES", 10)
        found = list(read_lines(io.BytesIO(b"one\n" + b"x" * 50 + b"\ntwo\n" + b"y" * 50)))
    assert found == [(1, b"one\n"), (2, None), (3, b"two\n"), (4, None)]
