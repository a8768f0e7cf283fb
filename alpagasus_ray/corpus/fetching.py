"""Fetching the paper's test sets from where they were published: whole, as published, or not at all."""

from __future__ import annotations

import os
import tempfile
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from alpagasus_ray import __version__
from alpagasus_ray.corpus.published_sets import PublishedSet, file_in
from alpagasus_ray.corpus.source_files import one_line
from alpagasus_ray.corpus.testsets import parse_prompts, read_testset
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_section import holds_a_secret

TIMEOUT_S = 30.0
"""Without a byte."""
MAX_DURATION_S = 300.0
MAX_BYTES = 16 << 20
"""The largest of the sets has 170 kB."""
CHUNK_BYTES = 1 << 16


class _NotTheSet(Exception):
    """What came, or why nothing did, in words."""


def fetch(published: PublishedSet, folder: Path, base_url: str | None = None) -> bool:
    """Have a test set in a folder, from the first address that has it; return whether it was fetched.

    False: it was there already. Proxies are those of the environment. Raises UserError where no address
    has it, with what each of them gave, and where another file is in its place; nothing is left behind.
    """
    if base_url is not None and (
        not base_url.startswith(("http://", "https://")) or holds_a_secret(base_url)
    ):
        raise UserError("--base-url: write it as https://HOST/FOLDER, without a user or key in it")
    if (there := file_in(published, folder)) is not None:
        if published.is_content(read_testset(there).prompts):
            return False
        raise UserError(
            f"{there} is not what was published as {published.name}: remove it, then fetch it again"
        )
    failures = []
    for url in published.urls(base_url):
        try:
            data = _download(url)
            _check(published, data)
        except _NotTheSet as error:
            failures.append(f"{url}: {error}")
            continue
        _write(folder / published.file_name, data)
        return True
    raise UserError(f"the test set {published.name} cannot be fetched: {'; '.join(failures)}")


def _download(url: str) -> bytes:
    # urlopen would hold on to the proxies that were set when it was first called.
    opener = urllib.request.build_opener()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"alpagasus-ray/{__version__}"})
        with opener.open(request, timeout=TIMEOUT_S) as response:
            return _read(response)
    except urllib.error.HTTPError as error:
        raise _NotTheSet(f"HTTP {error.code} {error.reason}".strip()) from error
    except TimeoutError as error:
        raise _NotTheSet(f"no answer within {TIMEOUT_S:g} s") from error
    except urllib.error.URLError as error:
        reason = " ".join(str(error.reason).split())
        raise _NotTheSet(f"cannot be reached ({reason})") from error
    except (HTTPException, OSError, ValueError) as error:
        raise _NotTheSet(f"the transfer failed ({type(error).__name__}: {one_line(error)})") from error


def _read(response: HTTPResponse) -> bytes:
    started_s = time.monotonic()
    data = bytearray()
    while chunk := response.read(CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_BYTES:
            raise _NotTheSet(f"more than {MAX_BYTES >> 20} MiB came: that is no test set")
        if time.monotonic() - started_s > MAX_DURATION_S:
            raise _NotTheSet(f"not whole after {MAX_DURATION_S:g} s")
    # http.client tells a body that was cut short only where it is read in one go.
    if response.length:
        raise _NotTheSet(f"cut short: {response.length:,} bytes are missing")
    return bytes(data)


def _check(published: PublishedSet, data: bytes) -> None:
    """Raise _NotTheSet where the bytes do not hold the published prompts."""
    if data.lstrip()[:1] == b"<":
        raise _NotTheSet("a web page came instead of JSON lines (a log-in's or a proxy's?)")
    try:
        prompts = parse_prompts(data.decode("utf-8-sig"), "what came")
    except (UserError, UnicodeDecodeError) as error:
        raise _NotTheSet(f"{one_line(error)} (cut short?)") from error
    if len(prompts) != published.num_prompts:
        raise _NotTheSet(f"{len(prompts):,} prompts came instead of {published.num_prompts:,}")
    if not published.is_content(prompts):
        raise _NotTheSet("the prompts that came are not the published ones (another SHA-256)")


def _write(path: Path, data: bytes) -> None:
    """Write a file in one step, whoever else writes it at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).chmod(0o644)  # mkstemp's own lets nobody else read
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
