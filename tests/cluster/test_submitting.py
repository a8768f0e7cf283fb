"""`alpagasus submit` and `jobs` on a real cluster: follow, leave, come back, stop; and what it cannot do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.nodes import Cluster, started_nodes
from tests.grading_runs import CANARY, made_rows
from tests.loopback import LoopbackServer

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
KEY = "CANARY_API_KEY"
WITHIN_S = 30.0
NO_GPU_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node, whose environment has the judge's key, as an image's or a pod's would."""
    os.environ[KEY] = CANARY
    try:
        with started_nodes(tmp_path_factory.mktemp("nodes"), cpus=(2,)) as started:
            del os.environ[KEY]
            yield started
    finally:
        os.environ.pop(KEY, None)


@pytest.fixture
def endpoint() -> Iterator[LoopbackServer]:
    with LoopbackServer(api_key=CANARY, latency_s=0.3) as server:
        yield server


class User:
    """Somebody on another machine, with a folder of their own and the cluster's token."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.folder, self.runs = folder / "mine", folder / "shared"
        self.folder.mkdir()
        # Neither the key nor an address of the cluster's own: the flag has to be enough.
        self.environment = {
            name: value for name, value in cluster.environment.items() if name not in (KEY, ADDRESS)
        }
        self.address = cluster.dashboard_address

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "alpagasus_ray", *words, "--address", self.address],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": str(Path(__file__).parents[2]), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        process = self.start(*words, **env)
        out, error = process.communicate(timeout=300)
        return process.returncode, out, error

    def grading(self, endpoint: LoopbackServer, rows: int) -> list[str]:
        (self.folder / "rows.json").write_text(json.dumps(made_rows(rows, self.folder.parent.name)))
        recipe = {
            "corpus": {"data": "rows.json"},
            "grade": {
                "model": "judge",
                "base_url": endpoint.base_url,
                "api_key_env": KEY,
                "max_concurrency": 4,
                "guard": {"action": "off"},
            },
        }
        (self.folder / "mine.yaml").write_text(json.dumps(recipe))
        return ["submit", "grade", "--recipe", "mine.yaml", "--run-dir", str(self.runs / "run")]

    def states(self) -> list[str]:
        """The states of this user's jobs, the oldest first."""
        code, out, error = self.run("jobs", "list")
        assert code == 0, error
        return [line.split()[1] for line in out.splitlines() if str(self.runs) in line]


ADDRESS = "RAY_API_SERVER_ADDRESS"


@pytest.fixture
def user(cluster: Cluster, tmp_path: Path) -> User:
    return User(cluster, tmp_path)


def wait_until(true: Callable[[], bool], within_s: float = 90) -> None:
    until_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.2)


def test_a_stage_is_submitted_and_followed_and_its_secret_stays_where_it_is(
    user: User, endpoint: LoopbackServer, cluster: Cluster
) -> None:
    code, out, error = user.run(*user.grading(endpoint, 20), **{"OPENAI_API_KEY": f"{CANARY}-local"})
    assert code == 0, out + error
    assert ": submitted, grade on" in error
    assert "20 rows" in out and str(user.runs / "run" / "reviews") in out
    assert endpoint.answered.total() == 20
    told = subprocess.check_output(
        [
            sys.executable,
            "-c",
            "from ray.job_submission import JobSubmissionClient as C\n"
            "jobs = C().list_jobs()\n"
            "assert jobs\n"
            "print(*(job.json() for job in jobs))",
        ],
        env=cluster.environment,
        text=True,
    )
    assert "mine.yaml" in told and "gcs://" in told
    for secret in (CANARY, cluster.environment["RAY_AUTH_TOKEN"]):
        assert secret not in told + out + error

    code, out, error = user.run("submit", "select", "--arm", "a", "--run-dir", str(user.runs / "run"))
    assert code == 2, "the exit status of the stage itself"
    lines = [line for line in out.splitlines() if line.startswith("alpagasus: ")]
    assert len(lines) == 1
    assert "Traceback" not in out + error


def test_two_submits_at_once_are_one_job_that_can_be_left_and_stopped(
    user: User, endpoint: LoopbackServer
) -> None:
    words = user.grading(endpoint, 400)
    both = [user.start(*words), user.start(*words)]
    wait_until(lambda: endpoint.answered.total() > 10)
    assert user.states() == ["RUNNING"]
    code, out, error = user.run(*words, "--set", "grade.max_retries=3")
    assert code == 2 and "is at work in" in error and "with another command line" in error
    assert len(error.splitlines()) == 1

    both[0].send_signal(signal.SIGINT)
    _, error = both[0].communicate(timeout=WITHIN_S)
    how = [error.split(": ", 1)[1].partition(",")[0]]
    assert both[0].returncode == 130
    assert "goes on. Follow it: alpagasus jobs follow alpagasus-grade-run-" in error
    assert "Traceback" not in error
    asked = endpoint.answered.total()
    wait_until(lambda: endpoint.answered.total() > asked)
    assert user.states() == ["RUNNING"]

    job_id = error.split("jobs follow ")[1].split()[0]
    code, out, error = user.run("jobs", "stop", job_id)
    assert (code, out) == (0, "") and "is being stopped" in error
    _, error = both[1].communicate(timeout=WITHIN_S)
    how.append(error.split(": ", 1)[1].partition(",")[0].splitlines()[0])
    assert both[1].returncode == 130 and "has been stopped" in error
    assert sorted(how)[1] == "submitted" and sorted(how)[0].startswith("is at work already"), how
    assert user.states() == ["STOPPED"]
    assert user.run("jobs", "stop", job_id)[2].endswith("had ended before\n")
    code, out, error = user.run("jobs", "logs", job_id)
    assert code == 0 and "corpus: 400 rows" in out


def test_a_driver_that_dies_is_submitted_again_by_the_same_line(
    user: User, endpoint: LoopbackServer, cluster: Cluster
) -> None:
    words = user.grading(endpoint, 60)
    first = user.start(*words)
    wait_until(lambda: endpoint.answered.total() > 10)
    for driver in cluster.workers("alpagasus_ray grade"):
        driver.kill()
    out, error = first.communicate(timeout=60)
    assert first.returncode not in (0, 2), out + error
    assert "-1 has failed" in error
    code, out, error = user.run(*words)
    assert code == 0, out + error
    assert "-2: submitted" in error
    assert user.states() == ["FAILED", "SUCCEEDED"]
    assert sum(times - 1 for times in endpoint.answered.values()) <= 4, "what was in flight"


def test_no_wait(user: User, endpoint: LoopbackServer) -> None:
    code, out, error = user.run(*user.grading(endpoint, 5), "--no-wait")
    assert code == 0, error
    job_id = out.strip()
    assert f"alpagasus jobs follow {job_id} --address {user.address}" in error
    code, out, error = user.run("jobs", "follow", job_id)
    assert code == 0 and "5 rows" in out
    assert user.run("jobs", "status", job_id)[1].split()[:2] == [job_id, "SUCCEEDED"]
    assert user.run("jobs", "status", "no-such-job")[::2] == (
        2,
        f"alpagasus: the cluster at {user.address} has no job no-such-job: see "
        f"`alpagasus jobs list --address {user.address}`\n",
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "has another token: set RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN"),
    ],
)
def test_a_token_that_is_wrong_or_missing(user: User, changed: dict[str, str], told: str) -> None:
    started_s = time.monotonic()
    code, out, error = user.run("submit", "report", "--run-dir", "/x", **changed)
    assert time.monotonic() - started_s < WITHIN_S
    assert (code, out) == (2, "")
    assert told in error and len(error.splitlines()) == 1
    assert changed.get("RAY_AUTH_TOKEN", "-") not in error


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["serve", "MODEL", "--set", "serve.accelerator=gpu", "--set", "wait_for_nodes_s=5"],
            "1 model needs 1 GPU, the cluster has 0: add nodes",
        ),
        (
            ["serve", "MODEL", "--set", "serve.num_replicas=100", "--set", "wait_for_nodes_s=5"],
            "1 model needs 30.1 CPU, the cluster has 2: add nodes",
        ),
    ],
)
def test_what_cannot_be_placed_is_said(user: User, tiny_model: Path, flags: list[str], told: str) -> None:
    words = [str(tiny_model) if word == "MODEL" else word for word in flags]
    started_s = time.monotonic()
    code, out, error = user.run("submit", *words, "--run-dir", str(user.runs / "run"))
    assert code == 2, out + error
    assert time.monotonic() - started_s < NO_GPU_WITHIN_S
    assert told in out
    assert "waiting up to 5 s for" in out


def can_hide_folders() -> bool:
    tool = shutil.which("unshare")
    return tool is not None and not subprocess.run([tool, "--mount", "true"], check=False).returncode


@pytest.mark.skipif(not can_hide_folders(), reason="mount namespaces are for root")
def test_a_run_directory_that_a_node_does_not_see_is_refused_before_more_is_paid(tmp_path: Path) -> None:
    shared = tmp_path / "only-here"
    shared.mkdir()
    os.environ[KEY] = CANARY
    try:
        with (
            started_nodes(tmp_path, cpus=(1, 1), unseen={1: shared}) as nodes,
            LoopbackServer(api_key=CANARY) as endpoint,
        ):
            user = User(nodes, tmp_path)
            user.runs = shared
            words = user.grading(endpoint, 20)[1:]
            command = [sys.executable, "-m", "alpagasus_ray", *words]
            done = subprocess.run(
                command,
                cwd=user.folder,
                env=nodes.of_commands,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 2, done.stdout + done.stderr
            last = done.stderr.splitlines()[-1]
            assert last.startswith(f"alpagasus: --run-dir {shared}/run: node ")
            assert "take a folder that all nodes share, or an object store" in last
            assert endpoint.answered.total() <= 1, "the first row, which shows whether the judge is there"
            assert not list(shared.rglob(".seen-*"))
    finally:
        del os.environ[KEY]
