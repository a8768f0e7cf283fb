"""`alpagasus submit`: names of jobs, what is sent with them, and what is refused before anything is sent."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.cli import build_parser
from alpagasus_ray.errors import UserError
from alpagasus_ray.submit.submission import STAGES, Submission, submission
from alpagasus_ray.submit.working_folder import MIB, WorkingFolder
from alpagasus_ray.submit_commands import cluster_address, own_flags
from tests.shell import Shell, complaint
from tests.web_server import web_server

JOBS = Path(__file__).parents[1] / "jobs"
NO_JOBS = {"dashboard", "status", "demo", "estimate", "ledger", "testsets", "answers", "submit", "jobs"}
"""The demo is `run --recipe demo`; the others work on files, or on jobs themselves."""
WITHIN_S = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder, some of which git does not keep."""
    here = tmp_path / "mine"
    (here / "secret").mkdir(parents=True)
    (here / "runs").mkdir()
    (here / ".gitignore").write_text("secret/\n")
    for name in ("rows.json", "secret/rows.json", "runs/rows.json", "../outside.json"):
        (here / name).write_text(json.dumps([{"instruction": "Name a fruit.", "output": "An apple."}]))
    (here / "mine.yaml").write_text("corpus: {data: secret/rows.json}\n")
    return here


@contextmanager
def answering(status: int, body: str, kind: str = "text/html") -> Iterator[str]:
    """Some server that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with web_server(Handler) as address:
        yield address


def refused(pipeline_shell: Shell, folder: Path, *words: str, address: str = "http://127.0.0.1:9") -> str:
    started_s = time.monotonic()
    done = pipeline_shell.run(folder, "submit", *words, "--address", address)
    assert time.monotonic() - started_s < WITHIN_S
    return complaint(folder, done)


def selecting(data: str = "rows.json") -> tuple[str, ...]:
    return ("select", "--data", data, "--arm", "all", "--full", "--run-dir", "/shared/runs/x")


def commands() -> set[str]:
    actions = (action for action in build_parser()._actions if action.dest == "command")
    return set(next(actions).choices or ())


def test_every_stage_is_a_command_and_has_its_entry_point() -> None:
    assert set(STAGES) == commands() - NO_JOBS
    called = {path.read_text().partition('main(["')[2].partition('"')[0] for path in JOBS.glob("*.py")}
    assert called == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_has_a_flag_that_submit_takes_for_itself(stage: str) -> None:
    whole = next(action for action in build_parser()._actions if action.dest == "command")
    theirs = whole.choices[stage]._option_string_actions  # type: ignore[call-overload, index]
    assert set(theirs) & set(own_flags()._option_string_actions) == set()


def test_a_job_is_named_by_stage_and_run_directory_and_numbered() -> None:
    first = submission("train", ["--run-dir", "/shared/runs/mine", "--arm", "a b"], "/shared/runs/mine")
    assert first.entrypoint == "python -m alpagasus_ray train --run-dir /shared/runs/mine --arm 'a b'"
    assert first.name.startswith("alpagasus-train-mine-")
    assert first.next_attempt([]) == 1
    ids = [first.job_id(1), first.job_id(10), "raysubmit_x", None, f"{first.name}-x"]
    assert first.next_attempt(ids) == 11
    assert first.name == submission("train", [], "/shared/runs/mine/").name
    assert first.name != submission("train", [], "/shared/others/mine").name
    assert first.name != submission("grade", [], "/shared/runs/mine").name
    assert submission("run", [], "s3://b/runs/m?endpoint_override=x:1").name.startswith("alpagasus-run-m-")


@pytest.mark.parametrize("run_dir", [None, "runs/mine", "./x"])
def test_a_run_directory_that_is_lost_with_the_job_is_refused(run_dir: str | None) -> None:
    with pytest.raises(UserError, match=r"--run-dir.*whole path, or an object store"):
        submission("grade", [], run_dir)


SECRETIVE = (
    ("grade", "--data", "s3://AKIAX:topsecret@b/rows.json"),
    ("grade", "--data=s3://AKIAX:topsecret@b/rows.json"),
    ("grade", "--base-url", "http://me:topsecret@host:8000/v1"),
    ("grade", "--base-url", "https://host/v1?api_key=topsecret"),
    ("grade", "--run-dir", "s3://AKIAX:topsecret@b/run"),
    ("grade", "--set", "grade.base_url=http://me:topsecret@host/v1"),
    ("grade", "--set", "corpus.data=abfss://c@me.dfs.core.windows.net/x?sig=topsecret"),
    ("generate", "--testsets", "koala,s3://b/good.jsonl,s3://AKIAX:topsecret@b/bad.jsonl"),
    ("serve", "s3://AKIAX:topsecret@b/model"),
    ("compare", "--unknown", "gs://topsecret@b/x"),
)


@pytest.mark.parametrize("words", SECRETIVE)
def test_what_a_cluster_would_show_to_all_holds_no_secret(words: tuple[str, ...]) -> None:
    stage, *arguments = words
    with pytest.raises(UserError, match="a user or a key in it") as caught:
        submission(stage, arguments, "/shared/runs/x")
    named = words[1].partition("=")[0] if words[1].startswith("-") else stage
    assert str(caught.value).startswith(named)
    assert "topsecret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_setting_with_a_secret_is_named() -> None:
    with pytest.raises(UserError, match=r"^--set grade.base_url: this is an address"):
        submission("grade", ["--set", "grade.base_url=http://me:topsecret@host/v1"], "/x")


def test_addresses_without_a_secret_are_submitted() -> None:
    arguments = ["--data", "abfss://c@me.dfs.core.windows.net/x", "--base-url", "http://host:8000/v1"]
    assert submission("grade", [*arguments, "--set", "a=b@c"], "/x").arguments[:4] == tuple(arguments)


def test_no_job_starts_beside_another_that_fills_the_same_run_directory() -> None:
    def wanted(stage: str, run_dir: str = "/shared/runs/mine") -> Submission:
        return submission(stage, [], run_dir)

    grading = wanted("grade").job_id(3)
    assert wanted("grade").is_in_its_way(grading)
    assert wanted("run").is_in_its_way(grading)
    assert wanted("mt-bench").is_in_its_way(grading)
    assert wanted("grade").is_in_its_way(wanted("run").job_id(1))
    assert not wanted("run", "/shared/others/mine").is_in_its_way(grading)
    assert not wanted("run").is_in_its_way("raysubmit_x")
    assert not wanted("run").is_in_its_way(None)
    # A model may be served meanwhile, but by one job.
    assert not wanted("serve").is_in_its_way(grading)
    assert not wanted("generate").is_in_its_way(wanted("serve").job_id(1))
    assert wanted("serve").is_in_its_way(wanted("serve").job_id(1))


@pytest.mark.slow
def test_the_same_line_follows_the_job_that_runs_and_another_is_refused() -> None:
    from alpagasus_ray.submit.ray_jobs import _at_work

    grade = submission("grade", ["--run-dir", "/x"], "/x")
    run = submission("run", ["--run-dir", "/x"], "/x")

    def job(of: Submission, ended: bool) -> Any:
        status = SimpleNamespace(is_terminal=lambda: ended)
        return SimpleNamespace(submission_id=of.job_id(1), entrypoint=of.entrypoint, status=status)

    running = job(grade, ended=False)
    assert _at_work(grade, [job(run, ended=True), running]) is running
    assert _at_work(run, [job(grade, ended=True)]) is None
    for other in (run, submission("grade", ["--run-dir", "/x", "--limit", "3"], "/x")):
        with pytest.raises(UserError, match=rf"{grade.job_id(1)} is at work in /x with another command line"):
            _at_work(other, [running])


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address("head:8265/") == "http://head:8265"
    assert cluster_address("https://head") == "https://head"
    for wrong in ("ray://head:10001", "http://", "http://head:port", "ftp://head"):
        with pytest.raises(UserError, match="write it as http://HEAD:8265"):
            cluster_address(wrong)
    with pytest.raises(UserError, match="RAY_AUTH_TOKEN"):
        cluster_address("http://me:secret@head:8265")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UserError, match="which cluster"):
        cluster_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "http://one:8265")
    assert cluster_address(None) == "http://one:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://two:8265")
    assert cluster_address(None) == "http://two:8265"


def test_a_folder_that_is_too_large_names_its_largest_entries(tmp_path: Path) -> None:
    sizes = {"model/a": 300 * MIB, "model/b": 200 * MIB, "data.json": 90 * MIB, "x": 1, "y.py": 2}
    sent = WorkingFolder(tmp_path, sizes)
    sent.check_size(sum(sizes.values()))
    with pytest.raises(
        UserError,
        match=r"is 590 MiB, Ray takes 100 MiB with a job \(largest: model \(500 MiB\), data.json \(90 MiB\), "
        r".*--exclude, .gitignore or .rayignore",
    ):
        sent.check_size(100 * MIB)


@pytest.mark.slow
def test_what_is_counted_is_what_ray_packs(folder: Path, tmp_path: Path) -> None:
    """The files that are checked and those that are sent are the same."""
    program = (
        "import sys, zipfile\n"
        "from pathlib import Path\n"
        "from ray._private import ray_constants\n"
        "from ray._private.runtime_env.packaging import create_package\n"
        "from alpagasus_ray.submit.ray_jobs import NOT_SENT, working_folder\n"
        "here, there = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "excludes = ['*.log']\n"
        "counted = working_folder(here, excludes).sizes\n"
        "left_out = [*ray_constants.get_runtime_env_default_excludes(), *NOT_SENT, *excludes]\n"
        "create_package(str(here), there, include_gitignore=True, excludes=left_out)\n"
        "packed = {one.filename: one.file_size for one in zipfile.ZipFile(there).infolist() "
        "if not one.is_dir()}\n"
        "assert counted == packed, (counted, packed)\n"
        "print(sorted(packed))\n"
    )
    for name in (".git/config", ".venv/x.py", "a.log", "src/runs/kept.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path / "sent.zip"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['.gitignore', 'mine.yaml', 'rows.json', 'src/runs/kept.txt']"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (selecting("secret/rows.json"), r"secret/rows.json is left out"),
        (selecting("runs/rows.json"), r"runs/rows.json is left out"),
        (selecting("../outside.json"), r"../outside.json lies outside"),
        ((*selecting(), "--exclude", "*.json"), r"rows.json is left out"),
        (("run", "--recipe", "mine.yaml", "--run-dir", "/x"), r"corpus.data secret/rows.json is left out"),
        (("run", "--recipe", "yours.yaml", "--run-dir", "/x"), r"yours.yaml: no such file"),
        (("select", "--arm", "all", "--full"), "a job needs --run-dir"),
        ((*selecting(), "--install", "none.txt"), "no such file of requirements"),
        ((*selecting(), "--working-dir", "nowhere"), "there is no such folder"),
        (("train", "--arm", "a", "--wrokers", "3", "--run-dir", "/x"), "unrecognized arguments: --wrokers"),
        (("compare", "--out", "here", "--a", "x", "--b", "y", "--run-dir", "/x"), "--out here is lost"),
        (("ledger", "show"), "invalid choice: 'ledger'"),
        ((*selecting(), "--set", "ledger=s3://A:topsecret@b/l"), "--set ledger: this is an address with a"),
        (selecting("s3://A:topsecret@b/rows.json"), "--data: this is an address with a user or a key in it"),
        ((*selecting(), "--address"), "expected one argument"),
    ],
)
def test_what_can_be_known_here_is_said_here(
    pipeline_shell: Shell, folder: Path, words: tuple[str, ...], told: str
) -> None:
    import re

    line = refused(pipeline_shell, folder, *words)
    assert re.search(told, line), line
    assert "topsecret" not in line


def test_nothing_listens(pipeline_shell: Shell, folder: Path) -> None:
    line = refused(pipeline_shell, folder, *selecting())
    assert line == "no Ray cluster takes jobs at http://127.0.0.1:9: connection refused"


def test_an_address_that_never_answers(pipeline_shell: Shell, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = refused(
            pipeline_shell, folder, *selecting(), address=f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
    assert line.endswith("no answer within 15 s")


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>Welcome</html>"), (404, "nothing"), (200, "[1]"), (200, '{"a": 1}')]
)
def test_another_server_answers(pipeline_shell: Shell, folder: Path, status: int, body: str) -> None:
    with answering(status, body) as address:
        line = refused(pipeline_shell, folder, *selecting(), address=address)
    assert line == f"no Ray cluster takes jobs at {address}: another server answers there"


def test_a_server_that_fails(pipeline_shell: Shell, folder: Path) -> None:
    with answering(503, "later") as address:
        assert refused(pipeline_shell, folder, *selecting(), address=address).endswith("HTTP 503")


def test_a_cluster_of_another_ray(pipeline_shell: Shell, folder: Path) -> None:
    version = {"version": "4", "ray_version": "2.49.0", "ray_commit": "x", "session_name": "s"}
    with answering(200, json.dumps(version), "application/json") as address:
        line = refused(pipeline_shell, folder, *selecting(), address=address)
    assert line.startswith(f"the cluster at {address} runs Ray 2.49.0 and this is Ray 2.60.0: install")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("jobs", "stop"), "jobs stop wants a JOB_ID"),
        (("jobs", "list", "x"), "jobs list takes no JOB_ID"),
        (("jobs", "kill", "x"), "invalid choice: 'kill'"),
    ],
)
def test_slips_in_jobs(pipeline_shell: Shell, folder: Path, words: tuple[str, ...], told: str) -> None:
    assert told in complaint(folder, pipeline_shell.run(folder, *words, "--address", "http://127.0.0.1:9"))


def test_an_image_without_the_packages_or_with_an_old_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import alpagasus_ray.__main__ as started

    monkeypatch.setattr(started.sys, "version_info", (3, 9, 1, "final", 0))
    assert started.main() == 2
    assert capsys.readouterr().err == "alpagasus: this is Python 3.9, and 3.11 or newer is needed\n"
    monkeypatch.undo()
    program = (
        "import sys, runpy\n"
        "sys.modules['pydantic'] = None\n"
        "sys.argv = ['x', 'run']\n"
        "runpy.run_module('alpagasus_ray', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "alpagasus: the Python package pydantic is missing here: take an image that has it, or submit with "
        "--install FILE\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "driver", "wanted"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 1, 1),
        ("FAILED", None, 1),
        ("FAILED", -9, 137),
        ("STOPPED", None, 130),
    ],
)
def test_exit_statuses(status: str, driver: int | None, wanted: int) -> None:
    from alpagasus_ray.submit.ray_jobs import exit_status

    assert exit_status(SimpleNamespace(status=status, driver_exit_code=driver)) == wanted
