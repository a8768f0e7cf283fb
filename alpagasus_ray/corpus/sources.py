"""Where instruction data come from: a file, a URI or a data set of the hub; and the reader for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.corpus.csv_rows import read_csv_rows
from alpagasus_ray.corpus.hub import SCHEME, download, parse_hub_name
from alpagasus_ray.corpus.json_rows import read_json_rows
from alpagasus_ray.corpus.parquet_rows import read_parquet_rows
from alpagasus_ray.corpus.source_files import SourceFile, one_line
from alpagasus_ray.errors import UserError
from alpagasus_ray.text_files import in_haste

READERS: dict[str, Callable[[SourceFile], Iterator[Any]]] = {
    "json": read_json_rows,
    "csv": read_csv_rows,
    "parquet": read_parquet_rows,
}
"""By what the files are written in."""
ENDINGS = {
    "json": "json",
    "jsonl": "json",
    "ndjson": "json",
    "csv": "csv",
    "parquet": "parquet",
    "pq": "parquet",
}
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Source:
    """The files of one data set, in order."""

    name: str
    files: tuple[SourceFile, ...]

    def rows(self, format: str = "auto") -> Iterator[Any]:
        """Yield the rows one by one, with a BadRow for each that cannot be read.

        `format` csv or parquet names the reader; otherwise the files' names or their first bytes do.
        Raises UserError as the readers do.
        """
        for file in self.files:
            yield from READERS[format if format in READERS else _written_in(file)](file)

    def sha256(self) -> str:
        """Return the hash of the files' bytes; of a single file, its own."""
        digests = [file.sha256() for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def open_source(data: str) -> Source:
    """Return the source that `--data` names: a local file, a URI, or OWNER/NAME on the Hugging Face hub.

    Raises UserError where there is none: nothing of that name, a folder, a hub that cannot be reached.
    """
    if "://" in data and not data.startswith(SCHEME):
        return Source(data, (_file_at_uri(data),))
    try:
        is_there = Path(data).expanduser().exists()
    except OSError as error:
        raise UserError(f"--data {data}: {error.strerror}") from error
    dataset = None if is_there else parse_hub_name(data)
    if dataset is None:
        return Source(data, (_local_file(data, Path(data).expanduser()),))
    paths = download(dataset)
    # The cache's paths tell nobody anything.
    return Source(data, tuple(_local_file(f"{dataset.id}/{path.name}", path) for path in paths))


def _local_file(name: str, path: Path) -> SourceFile:
    file = SourceFile(name, str(path.absolute()), fs.LocalFileSystem())
    _check_is_file(name, file)
    return file


def _file_at_uri(uri: str) -> SourceFile:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise UserError(f"--data {uri} cannot be opened: {one_line(error)}") from error
    file = SourceFile(uri, path, filesystem)
    _check_is_file(uri, file)
    return file


def _check_is_file(name: str, file: SourceFile) -> None:
    with file.named_errors():
        kind = in_haste(file.filesystem).get_file_info(file.path).type
    if kind == fs.FileType.NotFound:
        raise UserError(f"--data {name}: no such file")
    if kind == fs.FileType.Directory:
        raise UserError(f"--data {name}: a folder; name one file in it")


def _written_in(file: SourceFile) -> str:
    if reader := ENDINGS.get(file.extension):
        return reader
    start = file.start(1 << 10)
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{"):
        return "json"
    raise UserError(
        f"{file.name}: neither its ending nor its first bytes tell what it is; looked for JSON, JSONL, CSV "
        "and Parquet (--format csv names CSV)"
    )
