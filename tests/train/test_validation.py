"""Rows that are held out: drawn by the seed, never trained on, lost nowhere."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.train.examples import Example
from alpagasus_ray.train.validation import hold_out, num_held_out


def numbered(count: int) -> list[Example]:
    return [Example((1, number), 1) for number in range(count)]


@given(
    rows=st.lists(st.integers(0, 30), min_size=2, max_size=80).filter(lambda rows: len(set(rows)) > 1),
    share=st.floats(0.01, 0.4),
    seed=st.integers(0, 5),
)
def test_every_row_is_trained_on_or_held_out_and_its_copies_with_it(
    rows: list[int], share: float, seed: int
) -> None:
    examples = [Example((1, number), 1) for number in rows]
    try:
        training, held_out = hold_out(examples, share, seed)
    except UserError:  # one row's copies may be all the rest
        return
    assert Counter(training) + Counter(held_out) == Counter(examples)
    assert set(training) & set(held_out) == set()
    assert len(held_out) >= num_held_out(len(rows), share)
    again = hold_out(examples, share, seed)
    assert [list(part) for part in again] == [list(training), list(held_out)]


def test_without_a_share_all_are_trained_on() -> None:
    assert hold_out(numbered(5), 0.0, 0) == (numbered(5), ())


@pytest.mark.parametrize(("rows", "share", "held_out"), [(100, 0.1, 10), (9_229, 0.01, 92), (20, 0.001, 1)])
def test_so_many_are_held_out(rows: int, share: float, held_out: int) -> None:
    training, validation = hold_out(numbered(rows), share, 42)
    assert (len(training), len(validation)) == (rows - held_out, held_out)
    assert list(training) == sorted(training, key=lambda one: one.input_ids), "their order stays"


def test_another_seed_holds_out_other_rows() -> None:
    drawn = {tuple(hold_out(numbered(50), 0.2, seed)[1]) for seed in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize("rows", [1, 2])
def test_a_share_that_leaves_nothing_is_refused(rows: int) -> None:
    with pytest.raises(UserError, match=r"validation_share 0\.9 holds out all"):
        hold_out(numbered(rows), 0.9, 0)
    with pytest.raises(UserError, match="all alike"):
        hold_out([Example((1, 2), 1)] * 10, 0.1, 0)
