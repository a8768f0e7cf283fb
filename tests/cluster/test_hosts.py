"""The whole pipeline on three hosts that share nothing but a network, submitted from outside of them.

With Ray's own settings, which hardly ever give up a host whose link is down for half a minute.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.cluster.hosts import Hosts
from tests.cluster.network import why_no_hosts
from tests.cluster.nodes import RAY
from tests.cluster.submitted import Site, Submitted, done, site
from tests.small_demo import FLAGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
REPOSITORY = Path(__file__).parents[2]
CUT_S = 30.0
VERDICTS = "verdicts/filtered--vs--full--answer-key"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A head that does no work, two hosts that do, and an object store that they all reach."""
    with site(tmp_path_factory.mktemp("hosts")) as built:
        yield built


def submitted(hosts: Hosts, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    here = hosts.folder / "outside"  # it is sent with a job
    here.mkdir(exist_ok=True)
    return subprocess.run(
        command,
        env={**hosts.environment, "PYTHONPATH": str(REPOSITORY), **env},
        cwd=here,
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )


def hosts_of(hosts: Hosts, title: str) -> set[int]:
    """Return which hosts had an actor whose class is called so, as Ray itself says, of ended ones too."""

    def listed(what: str) -> list[dict[str, Any]]:
        command = [RAY, "list", what, "--address", hosts.dashboard_address, "--format", "json"]
        done = submitted(hosts, [*command, "--limit", "1000", "--detail"])
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    numbers = {hosts.network.address_of(number): number for number in range(len(hosts.nodes))}
    places = {node["node_id"]: numbers[node["node_ip"]] for node in listed("nodes")}
    # An actor that was never placed has no node.
    at = [actor["node_id"] for actor in listed("actors") if title in actor["class_name"]]
    return {places[node_id] for node_id in at if node_id}


@pytest.mark.timeout(1200)
def test_the_pipeline_runs_on_three_hosts_as_on_one(finished_demo: tuple[Path, Any], here: Site) -> None:
    hosts = here.hosts
    local, address = RunDirectory(str(finished_demo[0])), here.address("runs/demo")
    job = [RAY, "job", "submit", "--address", hosts.dashboard_address, "--working-dir", str(REPOSITORY), "--"]
    refused = submitted(hosts, [*job, "echo", "entered"], RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN="")
    assert refused.returncode != 0 and "entered" not in refused.stdout.splitlines()
    assert "token" in (refused.stdout + refused.stderr).lower()

    lost = ["python", "jobs/select.py", "--arm", "full", "--full", "--run-dir", "runs/mine"]
    refused = submitted(hosts, [*job, *lost])
    assert refused.returncode != 0 and "--run-dir runs/mine is lost with this job" in refused.stdout

    stages = ["--recipe", "demo", "--run-dir", address, *FLAGS]
    ended = submitted(hosts, [*job, "python", "jobs/pipeline.py", *stages])
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "winning score" in ended.stdout, "the job's log shows the table"
    run = RunDirectory(address)
    results = run.read_text(f"{VERDICTS}/results.json")
    assert json.loads(results) == json.loads(local.read_text(f"{VERDICTS}/results.json"))
    for arm in ("full", "filtered"):
        one, three = local.manifest(f"models/{arm}"), run.manifest(f"models/{arm}")
        assert one is not None and three is not None
        assert three.details["final_loss"] == pytest.approx(one.details["final_loss"], rel=1e-5)
    assert run.exists("report/index.html")

    assert hosts.workers("JobSupervisor") == [], "the job has ended"
    assert hosts_of(hosts, "JobSupervisor") == {0}, "the job's driver"
    assert hosts_of(hosts, "RayTrainWorker") == {1, 2}
    assert hosts_of(hosts, "Judge") and hosts_of(hosts, "Judge") <= {1, 2}
    assert hosts_of(hosts, "FolderServer") and hosts_of(hosts, "FolderServer") <= {1, 2}
    assert hosts_of(hosts, "ModelIngress") == {0}, "where the endpoint listens"

    # The other way in: what is there is not made again, and what is missing comes out the same.
    models = {arm: run.read_text(f"models/{arm}/_manifest.json") for arm in ("full", "filtered")}
    for folder in (VERDICTS, "report"):
        run.remove_folder(folder)
    ours = [sys.executable, "-m", "alpagasus_ray", "submit", "--address", hosts.dashboard_address, "run"]
    ended = submitted(hosts, [*ours, *stages])
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert run.read_text(f"{VERDICTS}/results.json") == results
    assert {arm: run.read_text(f"models/{arm}/_manifest.json") for arm in models} == models
    token = hosts.environment["RAY_AUTH_TOKEN"]
    for name in run.list_files(""):
        with run.filesystem.open_input_stream(run.path(name)) as stream:
            assert token.encode() not in stream.read(), name


def test_a_link_that_is_cut_for_30_s(here: Site, tmp_path: Path) -> None:
    with here.endpoint() as endpoint:
        grading = Submitted(tmp_path, endpoint, here)
        job = grading.started()
        victim = grading.busy_host()
        here.hosts.network.cut(victim)
        threading.Timer(CUT_S, here.hosts.network.restore, (victim,)).start()
        grading.check_complete(done(job))
