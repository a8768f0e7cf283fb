"""What Ray's metrics, the event log and `status` say of a grading, beside what the endpoint has counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from urllib.request import urlopen

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.event_log import read_events, recording
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.metrics_table import (
    COST,
    FAILED_ROWS,
    IN_FLIGHT,
    LEDGER_HITS,
    RATE_LIMITED,
    RETRYING,
    ROWS,
    TOKENS,
    Metric,
)
from alpagasus_ray.pipeline import Pipeline
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.run_status import run_status
from tests.cluster.nodes import Cluster, entered, started_nodes
from tests.grading_runs import CANARY, Grading, made_rows, wait_until_still
from tests.loopback import Body, LoopbackServer, error, seeded_score

NUM_ROWS = 150
PATIENCE_S = 60
PRICE = {"input_usd_per_million_tokens": 1000.0, "output_usd_per_million_tokens": 2000.0}
SECRET_WORDS = "zanzibar-prompt"
pytestmark = [pytest.mark.slow, pytest.mark.cluster]


class Endpoint(LoopbackServer):
    """Has no room for every third prompt at first, and gives no score for every tenth."""

    def __init__(self) -> None:
        super().__init__(reply=self._reply, fault=self._fault, latency_s=0.02, api_key=CANARY)
        self.turned_away = 0

    def _reply(self, body: Body) -> str:
        return "I would rather not say." if _number(body) % 10 == 0 else seeded_score(body)

    def _fault(self, body: Body, times: int) -> web.StreamResponse | None:
        if times or _number(body) % 3:
            return None
        self.turned_away += 1
        return error(429, "Later.", "rate_limit_exceeded", {"retry-after-ms": "50"})


def _number(body: Body) -> int:
    return int(str(body["messages"][-1]["content"]).partition("<")[2].partition(">")[0])


class Driver:
    """Grades within this process, so that its metrics can be read when it has done so."""

    def __init__(self, folder: Path, endpoint: Endpoint, session: RaySession) -> None:
        self.folder, self.session = folder, session
        data = folder / "data.json"
        data.write_text(json.dumps(made_rows(NUM_ROWS, SECRET_WORDS)))
        judge = {"model": "judge", "base_url": endpoint.base_url, "guard": {"action": "off"}}
        self.recipe = Recipe.model_validate(
            {"corpus": {"data": str(data)}, "grade": judge, "prices": {"judge": PRICE}}
        )

    def grade(self, name: str) -> RunDirectory:
        run, console = RunDirectory(str(self.folder / name)), Console(StringIO(), StringIO())
        (self.folder / name / "logs").mkdir(parents=True)
        run.write_text(run.recipe, self.recipe.to_yaml())
        with recording(run, "grade", console):
            pipeline = Pipeline(run, self.recipe, self.session, console)
            pipeline.corpus()
            pipeline.grade()
        return run

    def page(self) -> str:
        (address,) = self.session.metrics_pages()
        with urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())

    def page_with(self, metric: Metric, value: float) -> str:
        """Return the page that shows this: Ray's workers tell their node every ten seconds."""
        until_s = time.monotonic() + PATIENCE_S
        while total(page := self.page(), metric) != value and time.monotonic() < until_s:
            time.sleep(0.5)
        return page


def total(page: str, metric: Metric, **labels: str) -> float:
    """Return a metric's value, over all the labels that are not given."""
    samples = [one for family in text_string_to_metric_families(page) for one in family.samples]
    return sum(
        one.value for one in samples if one.name == metric.exported and labels.items() <= one.labels.items()
    )


@pytest.fixture(scope="module")
def with_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A node that has the judge's key, so that it could get out."""
    folder = tmp_path_factory.mktemp("with-key")
    with started_nodes(folder, cpus=(2,), OPENAI_API_KEY=CANARY) as started:
        yield started


@contextmanager
def graded(tmp_path: Path) -> Iterator[tuple[Driver, Endpoint]]:
    endpoint = Endpoint()
    with endpoint, RaySession() as session:
        yield Driver(tmp_path, endpoint, session), endpoint


def test_the_metrics_are_what_the_endpoint_has_counted(with_key: Cluster, tmp_path: Path) -> None:
    with entered(with_key, "OPENAI_API_KEY"), graded(tmp_path) as (driver, endpoint):
        first = driver.grade("first")
        page = driver.page_with(ROWS, NUM_ROWS)
        usage = sum(endpoint.usage.values(), Counter())
        assert total(page, ROWS, stage="grade", model="judge") == NUM_ROWS
        assert total(page, TOKENS, kind="prompt") == usage["prompt_tokens"]
        assert total(page, TOKENS, kind="completion") == usage["completion_tokens"]
        cost_usd = (usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000) / 1e6
        assert total(page, COST) == pytest.approx(cost_usd)
        assert total(page, RATE_LIMITED) == endpoint.turned_away == NUM_ROWS / 3
        assert total(page, FAILED_ROWS, kind="unreadable") == total(page, FAILED_ROWS) == NUM_ROWS / 10
        # The first row is asked about before Ray is there; the work itself finds it in the ledger.
        hits = total(page, LEDGER_HITS)
        assert hits <= 1
        assert total(page, IN_FLIGHT) == total(page, RETRYING) == 0

        asked = endpoint.asked.total()
        driver.grade("second")
        page = driver.page_with(ROWS, 2 * NUM_ROWS)
        assert total(page, LEDGER_HITS) == hits + NUM_ROWS
        assert total(page, TOKENS, kind="prompt") == usage["prompt_tokens"], "nothing was paid for again"
        assert endpoint.asked.total() == asked

        logs = "".join(path.read_text() for path in (tmp_path / "first" / "logs").glob("*.jsonl"))
        for secret in (CANARY, SECRET_WORDS, "rather not say", os.environ["RAY_AUTH_TOKEN"]):
            assert secret not in page
            assert secret not in logs
        events = read_events(first)
        assert events[0]["event"] == "start"
        (end,) = [event for event in events if event["event"] == "end" and event["stage"] == "grade"]
        assert end["counts"]["scored"] == 0.9 * NUM_ROWS
        assert sum(end["failures"].values()) == NUM_ROWS / 10
        last = [event for event in events if event["event"] == "progress"][-1]
        assert (last["done"], last["total"], last["failed"]) == (NUM_ROWS, NUM_ROWS, NUM_ROWS / 10)
        assert last["cost_usd"] == pytest.approx(cost_usd)
        status = run_status(first, driver.recipe)
        (rubric,) = load_rubrics(driver.recipe.grade)
        states = {step.folder: step.state for step in status.steps}
        assert states[first.triplets] == states[first.reviews(rubric.name, "judge")] == "done"
        assert (states[first.report], status.is_running, status.outcome) == ("left", False, "done")


def test_status_while_a_command_is_at_work_and_after_it_was_killed(with_key: Cluster, tmp_path: Path) -> None:
    with LoopbackServer(latency_s=0.5) as endpoint:
        grading = Grading(tmp_path, endpoint, made_rows(2000, SECRET_WORDS), with_key.of_commands)
        run = RunDirectory(str(tmp_path / "run"))
        process = grading.start()
        try:
            said, until_s = "", time.monotonic() + 120
            while "now: " not in said and time.monotonic() < until_s:
                time.sleep(1)
                said = status_of(run, with_key) if run.exists(f"{run.triplets}/_manifest.json") else ""
        finally:
            process.kill()
            process.communicate()
            wait_until_still(endpoint)
    assert "corpus" in said and "2,000 rows" in said
    assert "`alpagasus grade` is at work: grade: " in said
    assert "now: grade by judge (openai-" in said and "in flight" in said
    after = status_of(run, with_key)
    assert "`alpagasus grade` ended without a word" in after
    assert CANARY not in said + after
    assert not run.is_locked()


def status_of(run: RunDirectory, cluster: Cluster) -> str:
    command = [sys.executable, "-m", "alpagasus_ray.cli", "status", "--run-dir", run.uri]
    done = subprocess.run(command, capture_output=True, text=True, env=cluster.of_commands, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
