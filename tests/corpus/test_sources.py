"""What `--data` may name, and what is said where there is nothing to read."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.corpus.sources import open_source
from alpagasus_ray.recipe import CorpusSettings
from alpagasus_ray.recipe_files import parse_recipe
from tests.corpus.conftest import OTHER, ROW, FileOf, complaint

LIST = json.dumps([ROW, OTHER])
LINES = f"{json.dumps(ROW)}\n{json.dumps(OTHER)}\n"
CSV = "instruction,input,output\nName a fruit.,,An apple.\nName a colour.,,Blue.\n"


def rows_at(data: str | Path, format: str = "auto") -> list[Any]:
    return list(open_source(str(data)).rows(format))


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.ndjson", "D.JSON", "d", "d.txt"])
@pytest.mark.parametrize("content", [LIST, LINES])
def test_json_is_read_whatever_the_file_is_called(file_of: FileOf, name: str, content: str) -> None:
    assert rows_at(file_of(content, name)) == [ROW, OTHER]


@pytest.mark.parametrize(
    ("name", "content"), [("d.json.gz", LIST), ("d.jsonl.gz", LINES), ("D.CSV.GZ", CSV), ("d.gz", LIST)]
)
def test_packed_files_are_read(file_of: FileOf, name: str, content: str) -> None:
    assert rows_at(file_of(gzip.compress(content.encode()), name)) == [ROW, OTHER]


@pytest.mark.parametrize("cut", [5, 30, -9, -1])
def test_a_packed_file_that_is_cut_off_is_refused(file_of: FileOf, cut: int) -> None:
    path = file_of(gzip.compress(LINES.encode())[:cut], "d.jsonl.gz")
    assert str(path) in complaint(lambda: rows_at(path))


def test_csv_without_its_ending_has_to_be_named(file_of: FileOf) -> None:
    path = file_of(CSV, "table")
    assert "looked for JSON, JSONL, CSV and Parquet" in complaint(lambda: rows_at(path))
    assert rows_at(path, "csv") == [ROW, OTHER]


def test_a_uri_is_read_as_a_path_is(file_of: FileOf) -> None:
    path = file_of(LIST)
    assert rows_at(f"file://{path}") == [ROW, OTHER]
    assert open_source(f"file://{path}").sha256() == open_source(str(path)).sha256()


def test_an_object_store_is_read_as_files_are() -> None:
    """The memory file system of fsspec stands for it: the same pyarrow calls, no local file."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/d.jsonl.gz", gzip.compress(LINES.encode()))
    try:
        uri = "fsspec+memory:///bucket/d.jsonl.gz"
        assert rows_at(uri) == [ROW, OTHER]
        assert open_source(uri).sha256() == hashlib.sha256(gzip.compress(LINES.encode())).hexdigest()
        assert "no such file" in complaint(lambda: rows_at("fsspec+memory:///bucket/other.json"))
        assert "a folder" in complaint(lambda: rows_at("fsspec+memory:///bucket"))
    finally:
        store.rm("/bucket", recursive=True)


def test_the_hash_is_that_of_the_files_bytes(file_of: FileOf) -> None:
    content = os.urandom(3_000_000)
    path = file_of(content, "d.json.gz")
    assert open_source(str(path)).sha256() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("missing.json", "--data missing.json: no such file"),
        ("no/such.jsonl.gz", "--data no/such.jsonl.gz: no such file"),
        ("~/no-such-file.json", "no such file"),
        ("file:///no/such.json", "no such file"),
        ("mock://no/such.json", "no such file"),
        (".", "--data .: a folder; name one file in it"),
        ("file:///", "a folder"),
        ("nope://x.json", "nope://x.json cannot be opened"),
        ("x" * 5000, "File name too long"),
        ("/dev/null/x.json", ""),
    ],
)
def test_what_is_not_there_is_told(data: str, says: str) -> None:
    assert says in complaint(lambda: rows_at(data))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_told(file_of: FileOf) -> None:
    path = file_of(LIST)
    path.chmod(0)
    assert "Permission denied" in complaint(lambda: rows_at(path))


@pytest.mark.parametrize("name", ["d.json", "d.jsonl", "d.csv", "d.parquet", "d.json.gz"])
def test_an_empty_file_is_told(file_of: FileOf, name: str) -> None:
    path = file_of("", name)
    assert str(path) in complaint(lambda: rows_at(path))


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        ({"format": "xml"}, "corpus.format"),
        ({"columns": {"instrution": "a"}}, "corpus.columns.instrution"),
        ({"format": "chat", "columns": {"output": "a"}}, "leave columns out"),
        ({"data": "s3://AKIA:topsecret@bucket/d.json"}, "keys come from the environment"),
    ],
)
def test_settings_that_cannot_be_are_told(corpus: dict[str, Any], says: str) -> None:
    text = complaint(lambda: parse_recipe({"corpus": corpus}))
    assert says in text
    assert "topsecret" not in text


@pytest.mark.parametrize("data", ["s3://bucket/a@b.json", "hf://datasets/a/b@main", "a@b.json"])
def test_an_at_sign_behind_the_host_is_no_key(data: str) -> None:
    assert CorpusSettings(data=data).data == data
