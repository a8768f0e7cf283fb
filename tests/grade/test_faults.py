"""Grading while things go wrong: the endpoint, the processes, the money. On a real Ray."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Cluster
from tests.grading_runs import CANARY, IN_FLIGHT, Grading, ended, made_rows
from tests.loopback import LoopbackServer
from tests.loopback_faults import Faults
from tests.loopback_limits import Limits

pytestmark = pytest.mark.slow
PRICES = "prices={judge: {input_usd_per_million_tokens: 100, output_usd_per_million_tokens: 400}}"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as endpoint:
        yield endpoint


@pytest.mark.usefixtures("on_cluster")
def test_through_a_faulty_endpoint_all_rows_are_reviewed_but_the_poisoned_one(
    tmp_path: Path, server: LoopbackServer
) -> None:
    shares = dict.fromkeys(["429", "500", "drop", "stall", "truncated", "html", "empty"], 0.05)
    server.faults = Faults(shares, seed=1, stall_s=2.0, retry_after_s=0.2)
    server.poison = lambda body: "<77>" in str(body)
    grading = Grading(tmp_path, server, made_rows(300))
    grading.finish("--set", "grade.max_retries=7")
    manifest = grading.manifest()
    assert (manifest.counts["scored"], manifest.failures) == (299, {"server error": 1})
    assert sum(score is None for score in grading.scores().values()) == 1
    assert len(server.faults.dealt) == len(shares), "not all faults happened"


@pytest.mark.parametrize(
    ("victim", "ledger"), [("driver", "disk"), ("actor", "disk"), ("driver", "object store")]
)
def test_whatever_is_killed_no_reply_is_paid_for_twice(
    tmp_path: Path,
    server: LoopbackServer,
    on_cluster: Cluster,
    kills: int,
    bucket: str,
    victim: str,
    ledger: str,
) -> None:
    server.latency_s = 0.1
    grading = Grading(tmp_path, server, made_rows(300 * kills))
    flags = ("--set", f"ledger={bucket}") if ledger == "object store" else ()
    grading.kill_again_and_again(victim, on_cluster, kills, random.Random(victim + ledger), *flags)
    # On an object store replies are kept within a second.
    lost = IN_FLIGHT if ledger == "disk" else IN_FLIGHT + IN_FLIGHT / server.latency_s
    print(f"{grading.repeated()} replies paid for twice at {kills} kills of the {victim}, ledger on {ledger}")
    assert grading.repeated() <= kills * lost
    server.latency_s = 0.0
    grading.finish("--set", f"ledger={tmp_path / 'another'}", run="undisturbed")
    assert grading.scores() == grading.scores("undisturbed")
    assert grading.manifest().content == grading.manifest("undisturbed").content


@pytest.mark.usefixtures("on_cluster")
def test_the_dollars_are_kept_to_and_the_rest_can_be_graded_later(
    tmp_path: Path, server: LoopbackServer
) -> None:
    grading = Grading(tmp_path, server, made_rows(300))
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
def test_the_rate_is_hardly_ever_exceeded(tmp_path: Path, server: LoopbackServer) -> None:
    server.limits = Limits(requests_per_minute=3000, window_s=1)
    server.latency_s = 0.2
    times: list[float] = []

    def reply(body: dict[str, Any]) -> str:
        times.append(time.monotonic())
        return "4\nFine."

    server.reply = reply
    Grading(tmp_path, server, made_rows(600)).finish(
        "--requests-per-minute", "3000", "--max-concurrency", "64"
    )
    per_minute = 60 * 500 / (times[599] - times[99])
    assert per_minute <= 1.02 * 3000  # how nearly it is reached hangs on the machine: benchmarks/grading.py
    assert server.limits.rate_limited <= 0.01 * server.asked.total()


@pytest.mark.usefixtures("on_cluster")
def test_one_edited_row_is_asked_about_alone(tmp_path: Path, server: LoopbackServer) -> None:
    grading = Grading(tmp_path, server, made_rows(200))
    grading.finish()
    data = made_rows(200)
    data[100]["output"] = "It is 100!"
    grading.write(data)
    out = grading.finish("--max-concurrency", "3")
    assert server.answered.total() == 201
    assert "1 asked" in out
    assert grading.repeated() == 0


def test_the_key_is_in_no_file_and_no_log(tmp_path: Path, server: LoopbackServer) -> None:
    server.api_key = CANARY
    server.reply = lambda body: "4\nCANARY-REPLY of mine."
    grading = Grading(tmp_path, server, made_rows(60))
    out = grading.finish()
    assert CANARY not in out
    server.api_key = "another"
    process = grading.start("--set", f"ledger={tmp_path / 'another'}", run="refused")
    out, code = ended(process)
    assert (code, CANARY in out) == (2, False)
    logs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in logs)
    for path in logs:
        content = path.read_bytes()
        assert CANARY.encode() not in content, path
        is_log = "logs" in path.parts or path.name == "_manifest.json"
        assert not (is_log and b"CANARY-REPLY" in content), path
        assert not (is_log and b"Name number <7>" in content), path
