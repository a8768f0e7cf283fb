"""Figures from nodes' pages for Prometheus, of which some cannot be read."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest

from alpagasus_ray import live_metrics, watch_commands
from alpagasus_ray.live_metrics import figures_in_words, read_figures
from tests.web_server import web_server

LABELS = 'stage="grade",model="judge",account="openai",WorkerId="w{number}"'
PAGE = (
    "# TYPE ray_alpagasus_judge_rows_total counter\n"
    f"ray_alpagasus_judge_rows_total{{{LABELS}}} 20\n"
    "# TYPE ray_alpagasus_judge_in_flight_requests gauge\n"
    f"ray_alpagasus_judge_in_flight_requests{{{LABELS}}} 3\n"
)
TIMEOUT_S = 2.0


class Pages(BaseHTTPRequestHandler):
    """A good page, and bad ones."""

    def do_GET(self) -> None:
        if self.path == "/silent":
            time.sleep(2 * TIMEOUT_S)
            return
        if self.path == "/no-http":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            return
        number = self.path.removeprefix("/good")
        body = {
            "/no-labels": b'ray_alpagasus_judge_in_flight_requests{a="b"} 1\n',
            "/no-metrics": b"<html>{</html>\n",
            "/no-text": b"\xff\xfe",
            "/cut": PAGE.encode(),
        }.get(self.path, PAGE.replace("{number}", number).encode())
        self.send_response(500 if self.path == "/error" else 200)
        self.send_header("Content-Length", str(len(body) + (9 if self.path == "/cut" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(live_metrics, "TIMEOUT_S", TIMEOUT_S)
    with web_server(Pages) as address:
        yield address


BAD = ("silent", "no-http", "no-labels", "no-metrics", "no-text", "cut", "error")


@pytest.mark.parametrize("bad", BAD)
def test_a_page_that_cannot_be_read_takes_no_other_page_with_it(node: str, bad: str) -> None:
    figures, num_unread = read_figures([f"{node}/good1", f"{node}/{bad}", f"{node}/good2"])
    assert num_unread == 1
    line = "grade by judge (openai): 20 rows, 0.0/s, 3 in flight"
    assert figures_in_words(figures, "grade") == [line, line]


def test_nodes_that_are_gone_are_waited_for_together(node: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        gone = [f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"] * 30 + ["http://127.0.0.1:9/metrics"]
        started_s = time.monotonic()
        figures, num_unread = read_figures([*gone, f"{node}/good1"])
        assert time.monotonic() - started_s < 10 * TIMEOUT_S
    assert (num_unread, len(figures)) == (31, 1)


def test_no_pages_have_no_figures() -> None:
    assert read_figures([]) == ({}, 0)


def test_it_is_said_how_many_could_not_be_read(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_commands, "own_pages", lambda run: [f"{node}/good1", f"{node}/no-http"])
    said = watch_commands._live(SimpleNamespace(run=None), "grade")  # type: ignore[arg-type]
    assert said == [
        "now: grade by judge (openai): 20 rows, 0.0/s, 3 in flight",
        "no figures from Ray's metrics of 1 of 2 nodes: they cannot be read",
    ]
