"""What the user sees: one bar or one line now and then per stage, and nothing of the libraries' chatter."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

LINE_EVERY_S = 10.0
WATCHED_EVERY_S = 1.0


def _to_nobody(stage: str, event: str, **figures: Any) -> None:
    """Where there is no log."""


class Progress:
    """The rows done of one stage, with rate and time left."""

    def __init__(self, console: Console, label: str, total: int, unit: str) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self.stage = label.partition(" ")[0]
        """A label begins with the stage's name."""
        self._shown_s = time.monotonic()
        self._done = 0
        self._before = 0
        self._first: tuple[float, int] | None = None
        self._note = self._why = ""
        self._figures: Mapping[str, Any] = {}
        self._bar: RichProgress | None = None
        if console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description:<22}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[line]}"),
                console=console.rich,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=total or None, line="")
            self._bar.start()
        self._record()

    def advance(
        self, count: int = 1, note: str | None = None, figures: Mapping[str, Any] | None = None
    ) -> None:
        """Count more rows as done; a note stands at the end of the line, figures in the log."""
        self._figures = self._figures if figures is None else figures
        self.show(self._done + count, note)

    def found(self, count: int = 1) -> None:
        """Count rows that were done before this work began: they say nothing of its rate."""
        self._before += count
        if self._first is not None:
            first_s, first_done = self._first
            self._first = first_s, first_done + count
        self.show(self._done + count)

    def show(self, done: int, note: str | None = None, total: int | None = None) -> None:
        """Set the rows done, and the total where it is only known now."""
        self._done = done
        if self._first is None and done > self._before:
            # The rate is the work's own: what came before the first row was starting up.
            self._first = time.monotonic(), done
        self._total = self._total if total is None else total
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, total=self._total or None, line=self.line())
        if time.monotonic() - self._shown_s >= LINE_EVERY_S:
            self._shown_s = time.monotonic()
            self._record()
            if self._bar is None:
                self._console.show(f"{self._label}: {self.line()}")

    @contextmanager
    def watching(self, why: Callable[[], str]) -> Iterator[None]:
        """Ask now and then why no rows may be coming in, and show the answer: empty where nothing is wrong.

        Not being able to tell is no reason to stop: errors of `why` are passed over.
        """
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(WATCHED_EVERY_S):
                with suppress(Exception):
                    self._why = why()
                    self.show(self._done)

        threading.Thread(target=watch, name="progress", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self._why = ""

    def line(self) -> str:
        """Return rows, rate and time left in words, such as `5,120/9,229 rows, 740/s, 6 s left`.

        Before there is a total, `starting`.
        """
        # Where even the total is to come, whoever does the work is still starting.
        parts = [f"{self._done:,}/{self._total:,} {self._unit}" if self._total or self._done else "starting"]
        if (rate := self._rate()) is not None:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        return ", ".join([*parts, *filter(None, (self._note, self._why))])

    def _rate(self) -> float | None:
        first_s, first_done = self._first or (0.0, 0)
        elapsed_s = time.monotonic() - first_s
        return (self._done - first_done) / elapsed_s if self._done > first_done and elapsed_s > 0 else None

    def _record(self) -> None:
        rate = self._rate()
        self._console.on_event(
            self.stage,
            "progress",
            label=self._label,
            done=self._done,
            total=self._total,
            unit=self._unit,
            per_second=rate and round(rate, 3),
            left_s=rate and round((self._total - self._done) / rate),
            **self._figures,
            line=self.line(),
        )

    def close(self) -> None:
        """Take the bar off the screen."""
        self._record()
        if self._bar is not None:
            self._bar.stop()


class Console:
    """Writes results to standard output, and everything that passes to standard error."""

    def __init__(self, out: TextIO, error: TextIO) -> None:
        self._out = out
        self.rich = RichConsole(file=error, highlight=False, emoji=False)
        self.is_terminal = error.isatty()
        self.on_event: Callable[..., None] = _to_nobody
        """Is told the stage and what happens to it: what is said, and how far it is."""

    def say(self, line: str) -> None:
        """Show one line about the work, which begins with the stage's name, and keep it in the log."""
        stage, colon, _ = line.partition(":")
        self.on_event(stage.partition(" ")[0] if colon else "", "said", line=line)
        self.show(line)

    def show(self, line: str) -> None:
        """Show one line on the screen alone."""
        self.rich.print(line, markup=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Show a result: what a script would read."""
        print(text, file=self._out, flush=True)

    @contextmanager
    def progress(self, label: str, total: int, unit: str = "rows") -> Iterator[Progress]:
        """Show a bar on a terminal, elsewhere a line every ten seconds, for as long as the block lasts."""
        progress = Progress(self, label, total, unit)
        try:
            yield progress
        finally:
            progress.close()


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(7.4), duration(125), duration(7300)
    ('7 s', '2 min 5 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain_console() -> Console:
    """Return a console on this process's own streams."""
    return Console(sys.stdout, sys.stderr)


def take_terminal(log_file: Path) -> Console:
    """Send all that any library of this process prints to a log file; return a console for our own words.

    It is done on the file descriptors, since native code (Ray's, vLLM's) writes there past sys.stderr.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    console = Console(
        os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace"),
        os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1),
    )
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    return console
