"""Fetching test sets from a real server on loopback: whole, as published, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from alpagasus_ray.corpus import fetching
from alpagasus_ray.corpus.fetching import fetch
from alpagasus_ray.corpus.published_sets import PublishedSet, content_sha256
from alpagasus_ray.corpus.testsets import parse_prompts, read_testset
from alpagasus_ray.errors import UserError
from tests.file_server import FileServer, Page

ROWS = [{"id": f"m_{number}", "prompt": f"Question {number}, é?"} for number in range(40)]
BODY = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
PATH = "/sets/mine_test_set.jsonl"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FileServer({PATH: Page(BODY)}) as started:
        yield started


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "testsets"


def mine(home: str = "http://127.0.0.1:9/nowhere") -> PublishedSet:
    return PublishedSet("mine", len(ROWS), content_sha256(parse_prompts(BODY.decode(), "mine")), home)


def complaint(server: FileServer, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch(mine(), cache, f"{server.url}/sets")
    text = str(caught.value)
    assert "\n" not in text
    assert f"{server.url}{PATH}" in text
    assert not cache.exists() or list(cache.iterdir()) == []
    return text


def test_a_set_is_fetched_once(server: FileServer, cache: Path) -> None:
    assert fetch(mine(), cache, f"{server.url}/sets/")
    assert (cache / "mine_test_set.jsonl").read_bytes() == BODY
    assert not fetch(mine(), cache, f"{server.url}/sets")
    assert server.asked == [PATH]
    assert [path.name for path in cache.iterdir()] == ["mine_test_set.jsonl"]


@pytest.mark.parametrize("body", [BODY.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + BODY, BODY.rstrip()])
def test_the_same_prompts_in_other_bytes_are_the_set(server: FileServer, cache: Path, body: bytes) -> None:
    server.pages[PATH] = Page(body)
    assert fetch(mine(), cache, f"{server.url}/sets")
    assert mine().is_content(read_testset(cache / "mine_test_set.jsonl").prompts)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (Page(b"gone", status=404), "HTTP 404 Not Found"),
        (Page(b"oops", status=503), "HTTP 503 Service Unavailable"),
        (Page(b"\n <!doctype html><p>Log in</p>", content_type="text/html"), "a web page came"),
        (Page(b"<html></html>"), "a web page came"),
        (Page(BODY[:500], promised=len(BODY)), "cut short"),
        (Page(BODY[:500], promised=-1), "not JSON"),
        (Page(b"".join(BODY.splitlines(keepends=True)[:-1])), "39 prompts came instead of 40"),
        (Page(BODY.replace(b"Question 7", b"Question 8")), "not the published ones"),
        (Page(BODY.replace(b"m_7", b"m_77")), "not the published ones"),
        (Page(b""), "no prompts"),
        (Page(b"\xff\xfe\x00"), "utf-8"),
        (Page(b"", status=302, location="file:///etc/hostname"), "HTTP 302"),
    ],
)
def test_what_is_not_the_set_is_told_and_leaves_nothing(
    server: FileServer, cache: Path, page: Page, says: str
) -> None:
    server.pages[PATH] = page
    assert says in complaint(server, cache)


def test_a_server_that_says_nothing_is_given_up(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 0.2)
    server.pages[PATH] = Page(BODY, silent_s=30.0)
    assert "within 0.2 s" in complaint(server, cache)


def test_more_than_a_test_set_can_have_is_not_taken_in(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 1 << 20)
    server.pages[PATH] = Page(BODY * 2000)
    assert "more than 1 MiB" in complaint(server, cache)


def test_a_server_that_is_not_there_is_told(cache: Path) -> None:
    with FileServer() as server:
        pass
    assert "Connection refused" in complaint(server, cache)


def test_the_second_address_is_asked_where_the_first_has_it_not(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alpagasus_ray.corpus.published_sets.ALPAGASUS", f"{server.url}/gone")
    assert fetch(mine(f"{server.url}{PATH}"), cache)
    assert server.asked == ["/gone/mine_test_set.jsonl", PATH]
    with pytest.raises(UserError, match=r"gone/mine_test_set\.jsonl: HTTP 404.*; .*/nothing: HTTP 404"):
        fetch(mine(f"{server.url}/nothing"), cache / "other")


def test_a_redirection_is_followed(server: FileServer, cache: Path) -> None:
    server.pages["/moved/mine_test_set.jsonl"] = Page(b"", status=301, location=f"{server.url}{PATH}")
    assert fetch(mine(), cache, f"{server.url}/moved")


def test_the_environments_proxy_is_asked(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = "http://testsets.invalid/sets"
    server.pages[f"{there}/mine_test_set.jsonl"] = Page(BODY)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    assert fetch(mine(), cache, there)
    assert server.asked == [f"{there}/mine_test_set.jsonl"]


def test_another_file_in_its_place_is_left_alone(server: FileServer, cache: Path) -> None:
    cache.mkdir(parents=True)
    own = cache / "mine_test_set.jsonl"
    own.write_text('{"prompt": "My own."}\n')
    with pytest.raises(UserError, match="remove it, then fetch it again"):
        fetch(mine(), cache, f"{server.url}/sets")
    assert own.read_text() == '{"prompt": "My own."}\n'
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_told(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        fetch(mine(), tmp_path / "file" / "testsets", f"{server.url}/sets")


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///tmp", "host/x", "https://user:secret@host/x"])
def test_an_address_that_is_none_or_has_a_secret_in_it_is_refused(cache: Path, url: str) -> None:
    with pytest.raises(UserError, match="--base-url") as caught:
        fetch(mine(), cache, url)
    assert "secret" not in str(caught.value)


def test_many_may_fetch_at_the_same_time(server: FileServer, cache: Path) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            fetch(mine(), cache, f"{server.url}/sets")
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [path.name for path in cache.iterdir()] == ["mine_test_set.jsonl"]
    assert (cache / "mine_test_set.jsonl").read_bytes() == BODY
