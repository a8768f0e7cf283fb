"""What the user sees, and what goes to the log instead."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray import console as console_module
from alpagasus_ray.console import Console, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (7.4, "7 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7300, "2 h 1 min"),
        (100 * 3600, "100 h 0 min"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


class Streams:
    """A console that writes into memory, as into a file or a pipe."""

    def __init__(self) -> None:
        self.out, self.error = io.StringIO(), io.StringIO()
        self.console = Console(self.out, self.error)

    @property
    def lines(self) -> list[str]:
        return self.error.getvalue().splitlines()


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [100.0]
    monkeypatch.setattr(console_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_results_and_talk_go_different_ways(streams: Streams) -> None:
    streams.console.say("working")
    streams.console.result("done")
    assert (streams.out.getvalue(), streams.error.getvalue()) == ("done\n", "working\n")


@pytest.mark.parametrize(
    "line",
    [
        "x" * 500,
        "[bold]not markup[/bold] [red",
        "model a:smile:b at http://host:8000/v1",
        "/a/very/long/path " * 30,
        "ümlaut 模型",
        "{'a': 1} <b> \\[x]",
    ],
)
def test_a_line_is_shown_as_it_stands(streams: Streams, line: str) -> None:
    streams.console.say(line)
    assert streams.error.getvalue() == f"{line}\n"


def test_a_progress_line_has_rows_rate_and_time_left(streams: Streams, clock: list[float]) -> None:
    progress = Progress(streams.console, "grade", 9229, "rows")
    clock[0] += 60  # Ray starts, actors come up: no part of the rate
    progress.advance(20)
    assert progress.line() == "20/9,229 rows"
    clock[0] += 7
    progress.advance(5100)
    assert progress.line() == "5,120/9,229 rows, 729/s, 6 s left"


def test_what_was_done_before_says_nothing_of_the_rate(streams: Streams, clock: list[float]) -> None:
    progress = Progress(streams.console, "generate", 12_001, "prompts")
    progress.found(5_921)
    clock[0] += 60  # an engine starts
    progress.advance()
    assert progress.line() == "5,922/12,001 prompts"
    clock[0] += 1
    progress.advance(200)
    assert progress.line() == "6,122/12,001 prompts, 200/s, 29 s left"


def test_what_was_done_before_and_is_found_late_says_nothing_of_the_rate_either(
    streams: Streams, clock: list[float]
) -> None:
    progress = Progress(streams.console, "generate", 10_000, "prompts")
    progress.advance()
    clock[0] += 2
    progress.advance(20)
    progress.found(5_000)
    assert progress.line() == "5,021/10,000 prompts, 10/s, 8 min 18 s left"


def test_a_slow_rate_has_a_decimal_and_a_note_stands_last(streams: Streams, clock: list[float]) -> None:
    progress = Progress(streams.console, "grade", 10, "prompts")
    progress.advance(1)
    clock[0] += 2
    progress.advance(1, "1 failed")
    assert progress.line() == "2/10 prompts, 0.5/s, 16 s left, 1 failed"
    progress.advance()
    assert progress.line().endswith("1 failed")


@pytest.mark.parametrize("total", [0, 1, 1000])
def test_before_the_first_row_nobody_knows_what_is_left(streams: Streams, total: int) -> None:
    assert "left" not in Progress(streams.console, "grade", total, "rows").line()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 50), max_size=5), st.integers(0, 200))
def test_no_progress_breaks_the_line(steps: list[int], total: int) -> None:
    progress = Progress(Streams().console, "grade", total, "rows")
    for step in steps:
        progress.advance(step)
    counted = f"{sum(steps):,}/{total:,} rows"
    assert progress.line().startswith(counted if total or sum(steps) else "starting")


def test_elsewhere_than_on_a_terminal_a_line_comes_now_and_then(streams: Streams, clock: list[float]) -> None:
    with streams.console.progress("grade", 100) as progress:
        for _ in range(50):
            clock[0] += 0.5
            progress.advance()
    assert [line.partition(",")[0] for line in streams.lines] == ["grade: 20/100 rows", "grade: 40/100 rows"]
    assert streams.out.getvalue() == ""


def test_progress_passes_errors_on(streams: Streams) -> None:
    with pytest.raises(ZeroDivisionError), streams.console.progress("grade", 1):
        raise ZeroDivisionError


def test_no_control_characters_reach_a_file(streams: Streams, clock: list[float]) -> None:
    with streams.console.progress("grade", 2) as progress:
        clock[0] += 20
        progress.advance()
    assert "\x1b" not in streams.error.getvalue()
    assert "\r" not in streams.error.getvalue()


PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
from alpagasus_ray.console import take_terminal
print("before")
console = take_terminal(Path(sys.argv[1]))
print("a library prints")
sys.stderr.write("a library complains\\n")
logging.getLogger("library").warning("a library logs")
warnings.warn("a library warns")
os.write(1, b"native code prints\\n")
os.write(2, b"native code complains\\n")
os.system("echo a child prints; echo a child complains >&2")
console.say("said \\u00fc \\ud800")
console.result("result \\u00fc \\ud800")
"""
CHATTER = (
    "a library prints",
    "a library complains",
    "a library logs",
    "a library warns",
    "native code prints",
    "native code complains",
    "a child prints",
    "a child complains",
)


def run_program(log: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(log)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **env},
        timeout=300,
        check=True,
    )


def test_only_our_own_words_reach_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "logs" / "grade.log"
    done = run_program(log)
    assert done.stdout == "before\nresult ü ?\n"
    assert done.stderr == "said ü ?\n"
    text = log.read_text(encoding="utf-8")
    assert [words for words in CHATTER if words not in text] == []
    assert "result" not in text


def test_a_second_run_is_added_to_the_log_whatever_the_locale(tmp_path: Path) -> None:
    log = tmp_path / "grade.log"
    log.write_text("the first run\n")
    assert run_program(log, LC_ALL="C", PYTHONUTF8="0").stderr == "said ü ?\n"
    text = log.read_text(encoding="utf-8")
    assert text.startswith("the first run\n")
    assert "native code prints" in text


def test_while_no_rows_come_in_the_line_says_why(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "LINE_EVERY_S", 0.0)
    monkeypatch.setattr(console_module, "WATCHED_EVERY_S", 0.01)
    words = iter(["waiting 20 s as asked"])
    progress = Progress(streams.console, "grade", 100, "rows")
    with progress.watching(lambda: next(words)):  # that it cannot tell the second time stops nothing
        until_s = time.monotonic() + 10
        while not streams.lines and time.monotonic() < until_s:
            time.sleep(0.01)
    assert streams.lines == ["grade: 0/100 rows, waiting 20 s as asked"]
    assert progress.line() == "0/100 rows"
