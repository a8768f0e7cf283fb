"""Grading more rows than are handed to Ray Data at once, and a ledger that is put in order meanwhile."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.judge import pool
from alpagasus_ray.judge.jobs import JudgeJob
from alpagasus_ray.judge.tidying import Tidying
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_files import LedgerFiles
from alpagasus_ray.llm.ledger_upkeep import MAX_SEGMENTS
from alpagasus_ray.pipeline import Pipeline
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe
from tests.cluster.nodes import Cluster, entered
from tests.grading_runs import made_rows
from tests.loopback import LoopbackServer, seeded_score

NUM_ROWS = 3 * 256 - 10
pytestmark = pytest.mark.slow


def test_rows_that_go_in_portions_are_each_asked_about_once(
    one_node: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "BLOCKS_AT_ONCE", 2)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    handed, judged = list[tuple[int, bool]](), pool._judged

    def noted(items: Any, rows_per_block: int, job: JudgeJob) -> Any:
        handed.append((len(items), job.is_proven))
        return judged(items, rows_per_block, job)

    monkeypatch.setattr(pool, "_judged", noted)
    data = tmp_path / "data.json"
    data.write_text(json.dumps(made_rows(NUM_ROWS)))
    with LoopbackServer(reply=seeded_score) as endpoint, entered(one_node), RaySession() as session:
        judge = {"model": "judge", "base_url": endpoint.base_url, "guard": {"action": "off"}}
        recipe = Recipe.model_validate({"corpus": {"data": str(data)}, "grade": judge})
        run = RunDirectory(str(tmp_path / "run"))
        pipeline = Pipeline(run, recipe, session, Console(StringIO(), StringIO()))
        pipeline.corpus()
        pipeline.grade()
        assert endpoint.asked.total() == len(endpoint.asked) == NUM_ROWS
    assert handed == [(2, False), (1, True)], "places of 256 rows; the judge stays proven"
    reviews = run.read_tables(run.reviews("accuracy", "judge"))
    assert len(set(reviews["triplet_id"].to_pylist())) == reviews.num_rows == NUM_ROWS
    assert reviews["score"].null_count == 0


def test_a_ledger_is_put_in_order_while_a_job_goes_on(one_node: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    keys = [f"{number:064x}" for number in range(MAX_SEGMENTS + 1)]
    for key in keys:
        ledger = Ledger(folder)
        ledger.record(key, Reply("4", "stop", 1, 1))
        ledger.close()
    with entered(one_node), RaySession() as session:
        session.connect()
        tidying = Tidying(str(folder))
        tidying.begin()
        ray.get(tidying._under_way)
        tidying.begin()  # the first one has ended: nothing stands in its way
        ray.get(tidying._under_way)
        gone = Tidying(f"{folder}/{next(folder.glob('*.jsonl')).name}")  # no folder: nothing can be listed
        gone.begin()
        ray.get(gone._under_way)
    assert len(LedgerFiles(str(folder)).listing().segments) == 1
    assert set(Ledger(folder).lookup_many(keys)) == set(keys)
