"""The event log, and how a run stands according to it and to its manifests."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray import event_log
from alpagasus_ray import run_status as run_status_module
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.cli import main
from alpagasus_ray.console import Console
from alpagasus_ray.errors import StoppedEarly, UserError
from alpagasus_ray.event_log import read_events, recording
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_files import load_recipe
from alpagasus_ray.run_status import RunStatus, run_status

ARMS = {"full": {"selector": "full"}, "filtered": {"selector": "threshold", "threshold": 4.5}}
RECIPE = Recipe.model_validate(
    {
        "grade": {"model": "judge"},
        "arms": ARMS,
        "compare": {"pairs": [["filtered", "full"]], "model": "judge"},
        "benchmark": {"tasks": ["mmlu"]},
        "mt_bench": {"model": "judge", "mode": ["single", "pairwise"]},
    }
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(str(tmp_path / "run"))
    (tmp_path / "run" / "logs").mkdir(parents=True)
    made.write_text(made.recipe, RECIPE.to_yaml())
    return made


def quiet() -> Console:
    return Console(StringIO(), StringIO())


def make(run: RunDirectory, folder: str, stage: str, content: str = "content", **made: Any) -> Manifest:
    inputs = made.pop("inputs", {})
    work = lambda: Made(content=content, **made)  # noqa: E731
    return run.make(folder, stage, {"content": content}, inputs, work)[0]


def states(status: RunStatus) -> dict[str, str]:
    return {f"{step.stage} {step.what}".rstrip(): step.state for step in status.steps}


def test_a_new_run_has_all_its_steps_left_in_their_order(run: RunDirectory) -> None:
    status = run_status(run, RECIPE)
    assert list(states(status)) == [
        "corpus",
        "grade accuracy by judge",
        "select full",
        "select filtered",
        "train full",
        "train filtered",
        "generate full",
        "generate filtered",
        "benchmark full mmlu",
        "benchmark filtered mmlu",
        "compare filtered against full",
        "mt-bench answers of full",
        "mt-bench answers of filtered",
        "mt-bench scores of full",
        "mt-bench scores of filtered",
        "mt-bench full against filtered",
        "report",
    ]
    assert set(states(status).values()) == {"left"}
    assert "0 of 17 steps committed" in status.to_text()


@pytest.mark.slow
def test_of_the_demo_every_step_is_done(finished_demo: tuple[Path, Any]) -> None:
    run = RunDirectory(str(finished_demo[0]))
    status = run_status(run, load_recipe(None, [], {}, arms={}, stored=run.read_text(run.recipe)))
    assert set(states(status).values()) == {"done"}
    assert (status.command, status.outcome) == ("demo", "done")
    events = read_events(run)
    assert {event["stage"] for event in events if event["event"] == "progress"} >= {"grade", "train"}


def test_committed_steps_say_counts_failures_and_cost(run: RunDirectory) -> None:
    make(run, run.triplets, "corpus", counts={"rows": 52002, "duplicates": 0})
    counts, failures = {"reviews": 52002, "scored": 52000}, {"timeout": 2}
    reviews = run.reviews("accuracy", "judge")
    make(run, reviews, "grade", counts=counts, failures=failures, cost_usd=4.36, wall_time_s=125.0)
    text = run_status(run, RECIPE).to_text()
    assert "2 of 17 steps committed, $4.36" in text
    (line,) = [line for line in text.splitlines() if line.startswith("grade")]
    assert line.endswith("done     52,002 reviews, 52,000 scored, 2 timeout, $4.36, 2 min 5 s")


def test_what_may_pass_is_to_be_asked_again_and_what_has_changed_makes_stale(run: RunDirectory) -> None:
    triplets = make(run, run.triplets, "corpus")
    reviews = run.reviews("accuracy", "judge")
    make(run, reviews, "grade", details={"passing_failures": 3}, inputs={run.triplets: triplets})
    assert states(run_status(run, RECIPE))["grade accuracy by judge"] == "again"
    make(run, run.triplets, "corpus", content="other")
    assert states(run_status(run, RECIPE))["grade accuracy by judge"] == "stale"


@pytest.mark.parametrize(
    ("error", "state", "outcome", "why"),
    [
        (UserError("no base model: give --model FOLDER"), "failed", "failed", "no base model"),
        (StoppedEarly("stopped at $1.00"), "stopped", "stopped", "stopped at $1.00"),
        (KeyError("the text of a row"), "failed", "failed", "a defect: KeyError"),
        (KeyboardInterrupt(), "stopped", "stopped", ""),
    ],
)
def test_what_failed_says_why(
    run: RunDirectory, error: BaseException, state: str, outcome: str, why: str
) -> None:
    def fail() -> Made:
        raise error

    with pytest.raises(type(error)), recording(run, "train", quiet()):
        run.make(run.model("full"), "train", {}, {}, fail)
    status = run_status(run, RECIPE)
    (step,) = [step for step in status.steps if step.folder == run.model("full")]
    assert (step.state, status.outcome, status.is_running) == (state, outcome, False)
    assert why in step.why and why in status.to_text()
    assert "the text of a row" not in (Path(run.root) / "logs" / "train.jsonl").read_text()


@contextmanager
def at_work(run: RunDirectory, console: Console) -> Iterator[None]:
    with run.locked(), recording(run, "grade", console):
        yield


def test_a_command_at_work_is_seen_and_not_disturbed(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = run.reviews("accuracy", "judge")
    console = quiet()

    def look() -> Made:
        with console.progress("grade", 100) as progress:
            progress.advance(20, "$0.40, 3 failed", {"failed": 3, "cost_usd": 0.4})
        seen.append(run_status(run, RECIPE))
        assert main(["status", "--run-dir", run.uri]) == 0
        return Made()

    seen: list[RunStatus] = []
    with at_work(run, console):
        run.make(reviews, "grade", {}, {}, look)
    (status,) = seen
    assert states(status)["grade accuracy by judge"] == "running"
    assert status.is_running and status.progress is not None
    assert {"done": 20, "total": 100, "failed": 3, "cost_usd": 0.4}.items() <= status.progress.items()
    said = capsys.readouterr().out
    assert "`alpagasus grade` is at work: grade: 20/100 rows, $0.40, 3 failed (0 s ago)" in said
    after = run_status(run, RECIPE)
    assert (after.is_running, after.outcome) == (False, "done")
    assert states(after)["grade accuracy by judge"] == "done"


def test_a_command_that_was_killed_ended_without_a_word(run: RunDirectory) -> None:
    log = event_log.EventLog(run, "grade")
    log.write("grade", "start")
    log.write("grade", "begin", folder=run.reviews("accuracy", "judge"))
    status = run_status(run, RECIPE, now=datetime.now(UTC) + timedelta(hours=2))
    assert not status.is_running
    assert states(status)["grade accuracy by judge"] == "stopped"
    assert "`alpagasus grade` ended without a word, last heard of 2 h 0 min ago" in status.to_text()
    with run.locked(), recording(run, "report", quiet()):
        others = run_status(run, RECIPE)
    assert (others.is_running, states(others)["grade accuracy by judge"]) == (True, "stopped")


def test_status_takes_no_lock_away(run: RunDirectory) -> None:
    with run.locked():
        assert run.is_locked()
    assert not run.is_locked()
    with (Path(run.root) / ".lock").open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="another command is at work"), run.locked():
            pass


def test_status_writes_nothing_and_wants_a_run(
    tmp_path: Path, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert main(["status", "--run-dir", run.uri, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["is_running"], said["live"], said["steps"][0]["state"]) == (False, [], "left")
    assert main(["status", "--run-dir", str(tmp_path / "none")]) == 2
    assert "there is no run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_log_in_an_object_store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "PUT_EVERY_S", 0.1)
    run = RunDirectory(bucket.replace("NAME", f"runs/{tmp_path.name}"))
    console = quiet()
    run.write_text(run.recipe, RECIPE.to_yaml())
    for number in range(2):
        with recording(run, "grade", console):
            console.say(f"grade: line {number}")
            until_s = time.monotonic() + 20
            while len(read_events(run)) < 3 * number + 2 and time.monotonic() < until_s:
                time.sleep(0.05)
            assert run_status(run, RECIPE).is_running, "it was heard of just now"
    assert [event["event"] for event in read_events(run)] == ["start", "said", "exit"] * 2
    status = run_status(run, RECIPE)
    assert (status.is_running, status.outcome) == (False, "done")


def test_a_command_in_an_object_store_that_has_nothing_to_say_is_at_work_until_its_process_is_gone(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "PUT_EVERY_S", 0.1)
    monkeypatch.setattr(run_status_module, "SILENT_AFTER_S", 3.0)
    run = RunDirectory(bucket.replace("NAME", f"runs/{tmp_path.name}"))
    run.write_text(run.recipe, RECIPE.to_yaml())
    put: list[str] = []
    write_bytes = run.write_bytes
    monkeypatch.setattr(run, "write_bytes", lambda name, data: (put.append(name), write_bytes(name, data)))
    with recording(run, "train", quiet()):
        time.sleep(4)  # S3 tells times in whole seconds
        status = run_status(run, RECIPE)
        assert status.is_running and status.heard_s is not None and status.heard_s < 3
        gone = run_status(run, RECIPE, now=datetime.now(UTC) + timedelta(seconds=5))
        assert not gone.is_running and gone.outcome is None
    assert set(put) == {"logs/train.jsonl"} and len(put) > 3
    after = run_status(run, RECIPE)
    assert (after.is_running, after.outcome) == (False, "done")
    assert [event["event"] for event in read_events(run)] == ["start", "exit"]


def test_the_last_word_is_not_put_before_what_is_older(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may take its time, and the last that it is told counts."""
    monkeypatch.setattr(event_log, "PUT_EVERY_S", 0.01)
    is_putting, there = threading.Event(), []

    def write_slowly(name: str, data: bytes) -> None:
        is_putting.set()
        if b"exit" not in data:
            time.sleep(0.3)
        there.append(data)

    monkeypatch.setattr(run, "is_local", False)
    monkeypatch.setattr(run, "write_bytes", write_slowly)
    with recording(run, "grade", quiet()):
        assert is_putting.wait(30)
    time.sleep(0.5)
    assert b"exit" in there[-1]


def line_of(**event: Any) -> bytes:
    return json.dumps({"time": "2026-11-29T06:00:00+00:00", **event}, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "line",
    [
        line_of(event="said", text="ä")[:-3],
        b"[1,2]",
        b"7",
        b'"word"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event": "said"}',
        b'{"time": "2026-11-29T06:00:00+00:00"}',
        line_of(event="said", time="yesterday"),
        line_of(event="said", time="2026-11-29T06:00:00"),
        line_of(event="said", time=None),
        line_of(event=7),
    ],
)
def test_what_is_no_event_is_left_out(
    run: RunDirectory, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run.root) / "logs" / "grade.jsonl"
    path.write_bytes(b"\n".join([line_of(event="start"), line, line_of(event="exit", outcome="done"), line]))
    assert [event["event"] for event in read_events(run)] == ["start", "exit"]
    assert main(["status", "--run-dir", run.uri]) == 0
    assert "`alpagasus grade`: done" in capsys.readouterr().out


@pytest.mark.parametrize("event", ["exit", "begin", "progress", "failed", "stopped", "end", "x"])
def test_events_that_lack_something_are_taken_as_they_are(run: RunDirectory, event: str) -> None:
    path = Path(run.root) / "logs" / "grade.jsonl"
    folder = run.reviews("accuracy", "judge")
    path.write_bytes(
        b"\n".join([line_of(event="start"), line_of(event=event), line_of(event=event, folder=folder)])
    )
    with run.locked():
        assert run_status(run, RECIPE).to_text()
    assert run_status(run, RECIPE).to_text()


def test_a_text_with_a_line_separator_is_one_event(run: RunDirectory) -> None:
    with recording(run, "grade", console := quiet()):
        console.say("grade: one\u2028line")
    assert [event["event"] for event in read_events(run)] == ["start", "said", "exit"]


@pytest.mark.parametrize(
    "wrecked",
    [
        {"inputs": ["triplets"]},
        {"counts": 7},
        {"failures": "none"},
        {"failures": {"timeout": "two"}},
        {"details": None},
        {"settings": 1},
        {"cost_usd": "much"},
        {"wall_time_s": None},
    ],
)
def test_a_wrecked_manifest_is_told_in_one_line(
    run: RunDirectory, wrecked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = run.reviews("accuracy", "judge")
    make(run, reviews, "grade")
    path = Path(run.path(f"{reviews}/_manifest.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrecked}))
    assert main(["status", "--run-dir", run.uri]) == 2
    said = capsys.readouterr().err
    assert f"{reviews}/_manifest.json cannot be read" in said and len(said.splitlines()) == 1


def test_a_log_that_cannot_be_written_stops_nothing(run: RunDirectory) -> None:
    (Path(run.root) / "logs" / "grade.jsonl").mkdir()
    console = quiet()
    with recording(run, "grade", console):
        console.say("grade: goes on")
    assert run_status(run, RECIPE).command is None
