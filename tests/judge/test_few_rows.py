"""Where few rows are handed on, few actors share them: each has enough to tell a judge who cannot be read."""

from __future__ import annotations

import pytest

from alpagasus_ray.judge.pilot_gate import PILOT_ROWS
from alpagasus_ray.judge.pool import for_few_rows
from alpagasus_ray.llm.retrying import MAX_FAILURES_IN_A_ROW
from alpagasus_ray.recipe import JudgeSettings


@pytest.mark.parametrize("num_actors", [1, 2, 8, 64])
@pytest.mark.parametrize("num_rows", [64, 96, 144, 1000])
def test_each_actor_has_rows_for_a_pilot_and_for_the_breaker(num_actors: int, num_rows: int) -> None:
    few = for_few_rows(JudgeSettings(model="judge"), num_actors, num_rows).num_actors
    assert few is not None
    assert 1 <= few <= num_actors
    assert num_rows // few >= max(PILOT_ROWS, MAX_FAILURES_IN_A_ROW)


def test_a_last_row_alone_has_one_actor() -> None:
    assert for_few_rows(JudgeSettings(model="judge"), 8, 1).num_actors == 1
