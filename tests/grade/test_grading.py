"""Grading on a real Ray, against a server on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.loopback import Body, LoopbackServer, error

pytestmark = pytest.mark.slow


def rows(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"Name number {i}.", "input": "", "output": f"It is {i}."} for i in range(count)]


def grade_command(data: Path, run_dir: Path, endpoint: LoopbackServer, *flags: str) -> list[str]:
    judge = ["--judge", "openai", "--model", "some-judge", "--base-url", endpoint.base_url]
    command = [sys.executable, "-m", "alpagasus_ray.cli", "grade", "--data", str(data)]
    # Replies are counted here: spoilt rows would be paid for too.
    unspoilt = ["--set", "grade.guard.planted_rows=0"]
    return [*command, "--run-dir", str(run_dir), *judge, *unspoilt, *flags]


def scores(run: RunDirectory, rubric: str = "accuracy") -> dict[str, float | None]:
    table = run.read_tables(run.reviews(rubric, "some-judge"))
    return {row["triplet_id"]: row["score"] for row in table.to_pylist()}


@pytest.mark.usefixtures("on_cluster")
def test_every_row_ends_as_a_score_or_a_reason_and_is_paid_for_once(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    bad = [
        {"instruction": "No output."},
        {"instruction": "", "output": "x"},
        {"instruction": 5, "output": "x"},
    ]
    twice = rows(1)
    data.write_text(json.dumps([*rows(200), *bad, *twice]))

    def refuse_one(body: dict, times: int) -> object:
        return error(400, "too long", "bad") if "number 7." in str(body) else None

    with LoopbackServer(fault=refuse_one) as endpoint:
        command = grade_command(data, tmp_path / "run", endpoint)
        first = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert first.returncode == 0, first.stderr
        run = RunDirectory(str(tmp_path / "run"))
        manifest = run.manifest(run.reviews("accuracy", "some-judge"))
        assert manifest is not None
        assert manifest.counts["reviews"] == 203
        assert manifest.counts["scored"] == 199
        assert manifest.failures == {
            "refused request": 1,
            "set aside: output is missing": 1,
            "set aside: instruction is empty": 1,
            "set aside: instruction is not a string": 1,
        }
        assert endpoint.answered.total() == 199
        before = scores(run)

        # A changed reader reads the replies that are there; nothing is asked but what failed.
        subprocess.run([*command, "--reader", "original"], timeout=300, check=True, capture_output=True)
        assert endpoint.answered.total() == 199
        assert scores(run) == before


@pytest.mark.usefixtures("on_cluster")
def test_several_rubrics_are_graded_one_after_the_other(tmp_path: Path) -> None:
    data, own = tmp_path / "data.json", tmp_path / "style.yaml"
    data.write_text(json.dumps(rows(80)))
    text = "template: 'Rate the style of {output}'\nscale: [1, 10]\nreader: {pattern: 'Style: ([0-9]+)'}\n"
    own.write_text(text)

    def reply(body: Body) -> str:
        is_own = "Rate the " in str(body)
        return "Fine.\nStyle: 8" if is_own else "4.5\nGood."

    with LoopbackServer(reply=reply) as endpoint:
        command = grade_command(data, tmp_path / "run", endpoint, "--rubric", f"accuracy,{own}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        run = RunDirectory(str(tmp_path / "run"))
        assert [Path(line).name for line in done.stdout.splitlines()] == [
            "accuracy--some-judge", "style--some-judge",
        ]  # fmt: skip
        assert set(scores(run).values()) == {4.5}
        assert list(scores(run, "style").values()) == [8.0] * 80
        assert endpoint.answered.total() == 160

        # Elsewhere the file is the same rubric; edited, it is another question.
        moved = tmp_path / "moved" / "style.yaml"
        moved.parent.mkdir()
        own.rename(moved)
        command = grade_command(data, tmp_path / "run", endpoint, "--rubric", str(moved))
        again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        assert "done before" in again.stderr
        moved.write_text(text.replace("style of", "tone of"))
        subprocess.run(command, capture_output=True, timeout=300, check=True)
        assert endpoint.answered.total() == 240


@pytest.mark.usefixtures("on_cluster")
def test_a_judge_that_cannot_select_is_pointed_out_and_its_pilot_is_paid_for_once(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows(300)))
    planted = ["--set", "grade.guard.planted_rows=20"]
    stop = ["--set", "grade.guard.action=stop"]
    with LoopbackServer(reply=lambda body: "4.5\nGood.") as endpoint:
        command = grade_command(data, tmp_path / "run", endpoint, *planted)
        stopped = subprocess.run([*command, *stop], capture_output=True, text=True, timeout=300, check=False)
        assert stopped.returncode == 2
        assert "the judge gives 100 % of 200 rows the same score (4.5)" in stopped.stderr
        assert endpoint.answered.total() in (220, 221), "the pilot, and the first row if it is not among it"
        run = RunDirectory(str(tmp_path / "run"))
        folder = run.reviews("accuracy", "some-judge")
        assert run.manifest(folder) is None

        warned = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert warned.returncode == 0, warned.stderr
        assert "the judge gives 100 % of 200 rows the same score (4.5)" in warned.stderr
        assert endpoint.answered.total() == 320
        manifest = run.manifest(folder)
        assert manifest is not None
        assert manifest.counts["reviews"] == manifest.counts["scored"] == 300
        assert manifest.counts["asked"] + manifest.counts["from_ledger"] == 300
        assert manifest.counts["asked"] in (99, 100)
        assert manifest.details["guard"]["planted_agreement"] == 0.5
        assert set(scores(run)) == {triplet["id"] for triplet in run.read_tables(run.triplets).to_pylist()}

        again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert "100 % of 200 rows" in again.stderr and "done before" in again.stderr
        assert endpoint.answered.total() == 320


def test_a_bad_key_stops_after_one_request(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows(50)))
    with LoopbackServer(api_key="right") as endpoint:
        done = subprocess.run(
            grade_command(data, tmp_path / "run", endpoint, "--api-key-env", "WRONG_KEY"),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": "/usr/bin:/bin", "WRONG_KEY": "sk-canary-4711"},
        )
        assert done.returncode == 2
        assert "Incorrect API key provided" in done.stderr
        assert "Traceback" not in done.stderr
        assert "canary" not in done.stderr + done.stdout
        assert endpoint.asked.total() == 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"canary" not in path.read_bytes()


def test_certificates_that_cannot_be_read_are_said_before_anything_is_asked(tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text(json.dumps(rows(5)))
    with LoopbackServer() as endpoint:
        done = subprocess.run(
            grade_command(data, tmp_path / "run", endpoint),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": "/usr/bin:/bin", "SSL_CERT_FILE": str(tmp_path / "nowhere.pem")},
        )
    assert done.returncode == 2
    assert "alpagasus: the certificates in SSL_CERT_FILE cannot be read: " in done.stderr
    assert "Traceback" not in done.stderr
    assert endpoint.asked.total() == 0
