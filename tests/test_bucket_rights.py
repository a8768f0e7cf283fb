"""A run directory in an object store that lets us not in, or not write: one line, before anything is paid."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.loopback import LoopbackServer
from tests.object_store import CREDENTIALS, object_store
from tests.shell import Shell, complaint


@pytest.fixture
def closed() -> Iterator[str]:
    """An address in a store that knows nobody's keys any more."""
    with object_store("closed") as address:
        endpoint = parse_qs(urlsplit(address).query)["endpoint_override"][0]
        let_in(endpoint, requests="0")
        try:
            yield address
        finally:
            let_in(endpoint, requests="inf")


def let_in(endpoint: str, requests: str) -> None:
    """Tell the store how many more requests it takes from anybody."""
    where = f"http://{endpoint}/moto-api/reset-auth"
    kind = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(where, requests.encode(), kind), timeout=10).read()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [(), ("--recipe", "mine.yaml")])
def test_a_bucket_without_rights(
    closed: str, recipe: tuple[str, ...], pipeline_shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([{"instruction": "Name a fruit.", "output": "An apple."}]))
    (tmp_path / "mine.yaml").write_text("corpus: {data: rows.json}\n")
    with LoopbackServer() as endpoint:
        started_s = time.monotonic()
        done = pipeline_shell.run(
            tmp_path,
            "grade",
            *("--data", "rows.json", "--model", "judge", "--base-url", endpoint.base_url, *recipe),
            *("--run-dir", closed.replace("NAME", "run")),
            **CREDENTIALS,
            OPENAI_API_KEY="sk-x",
        )
        assert time.monotonic() - started_s < 30
    line = complaint(tmp_path, done)
    assert line.startswith("--run-dir s3://closed/run")
    assert "cannot be read: " in line and "ACCESS_DENIED" in line
    assert endpoint.asked.total() == 0
