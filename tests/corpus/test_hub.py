"""Data sets of the Hugging Face hub: names, the choice of files, and the way here from a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlparse

import pytest

from alpagasus_ray.corpus.hub import HubDataset, choose_files, parse_hub_name
from alpagasus_ray.corpus.sources import open_source
from tests.corpus.conftest import OTHER, ROW, complaint
from tests.web_server import web_server

SHA = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"# Rows",
    "data/train-00000-of-00002.jsonl": json.dumps(ROW).encode() + b"\n",
    "data/train-00001-of-00002.jsonl": json.dumps(OTHER).encode() + b"\n",
    "data/test-00000-of-00001.jsonl": b"{}\n",
}
READ = """
import sys
from alpagasus_ray.corpus.sources import open_source
from alpagasus_ray.errors import UserError
for name in sys.argv[1:]:
    try:
        source = open_source(name)
        print([file.name for file in source.files], [row["output"] for row in source.rows()])
    except UserError as error:
        print("UserError:", error)
"""


@pytest.mark.parametrize(
    ("data", "dataset"),
    [
        ("tatsu-lab/alpaca", HubDataset("tatsu-lab/alpaca")),
        ("a/b.c_d-2", HubDataset("a/b.c_d-2")),
        ("hf://datasets/a/b", HubDataset("a/b")),
        ("hf://datasets/a/b@v1.0", HubDataset("a/b", "v1.0")),
        ("hf://datasets/a/b/deep/rows.json", HubDataset("a/b", None, "deep/rows.json")),
        ("hf://datasets/a/b@main/rows.json", HubDataset("a/b", "main", "rows.json")),
        ("data/rows.json", None),
        ("data/rows.JSONL.gz", None),
        ("rows", None),
        ("a/b/c", None),
        ("/a/b", None),
        ("./b", None),
        ("~/b", None),
        ("../b", None),
        ("a/b@main", None),
    ],
)
def test_a_name_is_told_from_a_path(data: str, dataset: HubDataset | None) -> None:
    assert parse_hub_name(data) == dataset


@pytest.mark.parametrize("data", ["hf://datasets/alpaca", "hf://datasets/", "hf://datasets/a/"])
def test_half_a_name_is_told_how_to_write_it(data: str) -> None:
    assert "OWNER/NAME" in complaint(lambda: parse_hub_name(data))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["README.md", "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"], [1]),
        ([".gitattributes", "databricks-dolly-15k.jsonl"], [1]),
        (
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "test-00000-of-00001.parquet"],
            [1, 0],
        ),
        (["test.csv", "train.csv", "validation.csv"], [1]),
        (["rows_000.json.gz", "rows_001.json.gz"], [0, 1]),
    ],
)
def test_the_parts_of_the_training_split_are_chosen(names: list[str], chosen: list[int]) -> None:
    assert choose_files(names, HubDataset("a/b")) == [names[place] for place in chosen]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ["one.json", "two.json"],
            "several tables: name one with --data hf://datasets/a/b/FILE. There: one.json",
        ),
        (["en/train.csv", "de/train.csv"], "There: de/train.csv, en/train.csv"),
        (["train.json", "train.parquet"], "several tables"),
        (["README.md", "model.bin"], "no file that can be read"),
        ([], "no file that can be read"),
    ],
)
def test_a_choice_that_is_the_users_is_left_to_the_user(names: list[str], says: str) -> None:
    assert says in complaint(lambda: choose_files(names, HubDataset("a/b")))


def test_a_file_that_was_named_is_taken_or_missed() -> None:
    names = ["one.json", "two.json"]
    assert choose_files(names, HubDataset("a/b", None, "two.json")) == ["two.json"]
    missed = complaint(lambda: choose_files(names, HubDataset("a/b", None, "three.json")))
    assert missed == "--data a/b: no file three.json there. There: one.json, two.json"


def test_without_the_hub_a_name_is_told_in_one_line() -> None:
    """The tests run with HF_HUB_OFFLINE."""
    text = complaint(lambda: open_source("nobody/nothing-of-the-kind"))
    assert text.startswith("--data nobody/nothing-of-the-kind: no such file, and the Hugging Face hub cannot")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as its own library needs to list and load a data set."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlparse(self.path).path
        if path.startswith("/api/datasets/me/rows/revision/"):
            return self._send(json.dumps({"id": "me/rows", "sha": SHA, "siblings": []}).encode())
        if path.startswith("/api/datasets/me/rows/tree/"):
            return self._send(json.dumps([_tree_entry(name) for name in FILES]).encode())
        name = path.removeprefix(f"/datasets/me/rows/resolve/{SHA}/")
        if name in FILES:
            return self._send(FILES[name], {"ETag": f'"{_digest(name)}"', "X-Repo-Commit": SHA})
        return self._send(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    def _send(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def _digest(name: str) -> str:
    return hashlib.sha1(FILES[name]).hexdigest()


def _tree_entry(name: str) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(FILES[name]), "oid": _digest(name)}


def read(names: list[str], home: Path, endpoint: str, **environment: str) -> list[str]:
    """Return what a process of its own reads: the hub's library takes its settings when it is loaded."""
    settings = {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", READ, *names],
        env={**os.environ, "HF_HUB_OFFLINE": "0", **settings, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_data_set_is_loaded_and_kept_for_when_the_hub_is_out_of_reach(tmp_path: Path) -> None:
    parts = ["me/rows/train-00000-of-00002.jsonl", "me/rows/train-00001-of-00002.jsonl"]
    both = f"{parts} ['An apple.', 'Blue.']"
    file = "hf://datasets/me/rows/data/train-00001-of-00002.jsonl"
    with web_server(Hub) as endpoint:
        found = read(["me/rows", file, "me/other"], tmp_path, endpoint)
    assert found[:2] == [both, f"{parts[1:]} ['Blue.']"]
    assert found[2].startswith("UserError: --data me/other: no such file, and no such data set on the hub")
    cached = {path.name for path in tmp_path.rglob("*.jsonl")}
    assert cached == {"train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"}, "no more than was needed"
    for offline in ("0", "1"):  # the endpoint is gone: the cache serves
        found = read(["me/rows", "me/other"], tmp_path, endpoint, HF_HUB_OFFLINE=offline)
        assert found[0] == both
        assert found[1].startswith(
            "UserError: --data me/other: no such file, and the Hugging Face hub cannot"
        )
