"""Grading while things go wrong: the endpoint, the processes, the money. On a real Ray."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.cluster.nodes import Cluster, descendants
from tests.loopback import LoopbackServer
from tests.loopback_faults import Faults
from tests.loopback_limits import Limits

pytestmark = pytest.mark.slow
CANARY = "sk-canary-4f7d1c0b"
IN_FLIGHT = 16
PRICES = "prices={judge: {input_usd_per_million_tokens: 100, output_usd_per_million_tokens: 400}}"


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"instruction": f"Name number <{i}>.", "input": "", "output": f"It is {i}."} for i in range(count)
    ]


class Grading:
    """Grading as a user starts it, again and again."""

    def __init__(self, folder: Path, endpoint: LoopbackServer, count: int) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.write(rows(count))

    def write(self, data: list[dict[str, str]]) -> None:
        (self.folder / "data.json").write_text(json.dumps(data))

    def command(self, *flags: str, run: str = "run") -> list[str]:
        where = ["--data", str(self.folder / "data.json"), "--run-dir", str(self.folder / run)]
        judge = [
            "--model",
            "judge",
            "--base-url",
            self.endpoint.base_url,
            "--max-concurrency",
            str(IN_FLIGHT),
        ]
        guard = ["--set", "grade.guard.action=off"]
        return [sys.executable, "-m", "alpagasus_ray.cli", "grade", *where, *judge, *guard, *flags]

    def start(self, *flags: str, run: str = "run") -> subprocess.Popen[str]:
        environment = {**os.environ, "OPENAI_API_KEY": CANARY}
        return subprocess.Popen(
            self.command(*flags, run=run),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    def finish(self, *flags: str, run: str = "run") -> str:
        process = self.start(*flags, run=run)
        out, _ = process.communicate(timeout=400)
        assert process.returncode == 0, out
        return out

    def scores(self, run: str = "run") -> dict[str, float | None]:
        directory = RunDirectory(str(self.folder / run))
        table = directory.read_tables(directory.reviews("accuracy", "judge"))
        return {row["triplet_id"]: row["score"] for row in table.to_pylist()}

    def manifest(self, run: str = "run") -> Any:
        directory = RunDirectory(str(self.folder / run))
        return directory.manifest(directory.reviews("accuracy", "judge"))

    def repeated(self) -> int:
        """How many replies were paid for more than once."""
        return sum(times - 1 for times in self.endpoint.answered.values())


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as endpoint:
        yield endpoint


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until_s = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < until_s and process.poll() is None, "it ended, or hangs"
        time.sleep(0.01)


def wait_until_still(endpoint: LoopbackServer) -> None:
    before = -1
    while endpoint.answered.total() != before:
        before = endpoint.answered.total()
        time.sleep(3 * endpoint.latency_s + 1)


def actors_of(cluster: Cluster) -> list[psutil.Process]:
    """The grading actors of a cluster."""
    processes = [process for node in cluster.nodes for process in descendants(node)]
    return [process for process in processes if "Judge" in "".join(process.cmdline())]


def kill(victim: str, process: subprocess.Popen[str], cluster: Cluster) -> None:
    if victim == "driver":
        process.send_signal(signal.SIGKILL)
        process.wait()
        return
    actors = actors_of(cluster)
    assert actors, "nobody to kill"
    for actor in actors:
        actor.kill()


@pytest.mark.usefixtures("on_cluster")
def test_through_a_faulty_endpoint_all_rows_are_reviewed_but_the_poisoned_one(
    tmp_path: Path, server: LoopbackServer
) -> None:
    shares = dict.fromkeys(["429", "500", "drop", "stall", "truncated", "html", "empty"], 0.05)
    server.faults = Faults(shares, seed=1, stall_s=2.0, retry_after_s=0.2)
    server.poison = lambda body: "<77>" in str(body)
    grading = Grading(tmp_path, server, 300)
    grading.finish("--set", "grade.max_retries=7")
    manifest = grading.manifest()
    assert (manifest.counts["scored"], manifest.failures) == (299, {"server error": 1})
    assert sum(score is None for score in grading.scores().values()) == 1
    assert len(server.faults.dealt) == len(shares), "not all faults happened"


@pytest.mark.parametrize("victim", ["driver", "actor"])
def test_whatever_is_killed_no_reply_is_paid_for_twice(
    tmp_path: Path, server: LoopbackServer, on_cluster: Cluster, victim: str
) -> None:
    server.latency_s = 0.1
    grading = Grading(tmp_path, server, 600)
    draw = random.Random(victim)
    process = grading.start()
    for share in sorted(draw.uniform(0.1, 0.8) for _ in range(2)):
        wait_for(lambda: server.answered.total() >= 600 * share, process)  # noqa: B023
        kill(victim, process, on_cluster)
        if victim == "driver":
            wait_until_still(server)
            process = grading.start()
    process.communicate(timeout=300)  # Ray may have put other actors in the places of the killed ones
    grading.finish()
    assert grading.repeated() <= 2 * IN_FLIGHT, "more than were in flight at the two kills"
    server.latency_s = 0.0
    grading.finish("--set", f"ledger={tmp_path / 'another'}", run="undisturbed")
    assert grading.scores() == grading.scores("undisturbed")
    assert grading.manifest().content == grading.manifest("undisturbed").content


@pytest.mark.usefixtures("on_cluster")
def test_the_dollars_are_kept_to_and_the_rest_can_be_graded_later(
    tmp_path: Path, server: LoopbackServer
) -> None:
    grading = Grading(tmp_path, server, 300)
    priced = ("--set", PRICES)
    out = grading.finish("--max-cost-usd", "1", *priced)
    assert "stopped at $" in out and "are left" in out
    assert grading.manifest() is None
    usage = server.usage["/v1/chat/completions"]
    cost_usd = (usage["prompt_tokens"] * 100 + usage["completion_tokens"] * 400) / 1e6
    assert 0.8 <= cost_usd <= 1.0
    answered = server.answered.total()
    grading.finish("--max-cost-usd", "1000", *priced)
    assert (grading.manifest().counts["scored"], grading.manifest().counts["asked"]) == (300, 300 - answered)
    assert grading.repeated() == 0
    assert grading.manifest().cost_usd == pytest.approx(cost_usd * (300 - answered) / answered, rel=0.2)


@pytest.mark.usefixtures("on_cluster")
def test_the_rate_is_nearly_reached_and_hardly_ever_exceeded(tmp_path: Path, server: LoopbackServer) -> None:
    server.limits = Limits(requests_per_minute=3000, window_s=1)
    server.latency_s = 0.2
    times: list[float] = []

    def reply(body: dict[str, Any]) -> str:
        times.append(time.monotonic())
        return "4\nFine."

    server.reply = reply
    Grading(tmp_path, server, 600).finish("--requests-per-minute", "3000", "--max-concurrency", "64")
    per_minute = 60 * 500 / (times[599] - times[99])
    assert 0.9 * 3000 <= per_minute <= 1.02 * 3000
    assert server.limits.rate_limited <= 0.01 * server.asked.total()


@pytest.mark.usefixtures("on_cluster")
def test_one_edited_row_is_asked_about_alone(tmp_path: Path, server: LoopbackServer) -> None:
    grading = Grading(tmp_path, server, 200)
    grading.finish()
    data = rows(200)
    data[100]["output"] = "It is 100!"
    grading.write(data)
    out = grading.finish("--max-concurrency", "3")
    assert server.answered.total() == 201
    assert "1 asked" in out
    assert grading.repeated() == 0


def test_the_key_is_in_no_file_and_no_log(tmp_path: Path, server: LoopbackServer) -> None:
    server.api_key = CANARY
    server.reply = lambda body: "4\nCANARY-REPLY of mine."
    grading = Grading(tmp_path, server, 60)
    out = grading.finish()
    assert CANARY not in out
    server.api_key = "another"
    process = grading.start("--set", f"ledger={tmp_path / 'another'}", run="refused")
    out, _ = process.communicate(timeout=300)
    assert (process.returncode, CANARY in out) == (2, False)
    logs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in logs)
    for path in logs:
        content = path.read_bytes()
        assert CANARY.encode() not in content, path
        is_log = "logs" in path.parts or path.name == "_manifest.json"
        assert not (is_log and b"CANARY-REPLY" in content), path
        assert not (is_log and b"Name number <7>" in content), path
