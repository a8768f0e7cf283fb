"""The run directory: the one place that spells paths and writes manifests.

A folder is an artifact once its `_manifest.json` is there, and that file is written last. Without
it there is nothing, however many files lie around; so a killed stage leaves no half artifact.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alpagasus_ray.claims import CLAIM, Claim
from alpagasus_ray.errors import UserError, how_it_ended
from alpagasus_ray.manifests import Made, Manifest, package_versions, settings_hash
from alpagasus_ray.run_paths import RunPaths
from alpagasus_ray.storage import Storage

MANIFEST = "_manifest.json"
LOCK = ".lock"
LOOKED_AT_S = 0.1
OnEvent = Callable[..., None]


def _to_nobody(stage: str, event: str, **figures: Any) -> None:
    """Where nobody wants to know."""


class RunDirectory(Storage, RunPaths):
    """One run's artifacts, in a local folder or an object store (anything pyarrow.fs can open)."""

    what = "--run-dir"

    def __init__(self, uri: str) -> None:
        """Open the directory; it need not be there yet. Raises UserError for an address that is none."""
        super().__init__(uri)
        self.on_event: OnEvent = _to_nobody
        """Is told the stage and what happens to it: its begin and its end, with counts."""

    @property
    def ledger(self) -> str:
        """The ledger beside the runs: RUN/../ledger."""
        if self.is_local:
            return f"{Path(self.root).parent}/ledger"
        address, mark, options = self.uri.partition("?")
        return f"{address.rstrip('/').rpartition('/')[0]}/ledger{mark}{options}"

    # Reading and writing.
    def write_table(self, relative: str, table: pa.Table, rows_per_group: int | None = None) -> None:
        """Write a Parquet file in one step; a group of rows can be read without the others."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=rows_per_group)
        self.write_bytes(relative, sink.getvalue().to_pybytes())

    def read_tables(self, folder: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of all Parquet files of a folder, files in the order of their names.

        Whoever needs few of the columns names them: the texts are most of the bytes.
        """
        return pa.concat_tables(self.each_table(folder, columns))

    def each_table(self, folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a folder's Parquet files, a file at a time, in the order of their names."""
        for name in self.list_files(folder):
            if name.endswith(".parquet"):
                path = self.path(f"{folder}/{name}")
                yield pq.read_table(path, filesystem=self.filesystem, columns=columns)

    def remove_folder(self, folder: str) -> None:
        """Remove a folder, if it is there."""
        if self.exists(folder):
            self.filesystem.delete_dir(self.path(folder))

    def clear(self, folder: str) -> None:
        """Remove a folder's artifact, its manifest first, so that no moment shows a false one."""
        manifest = self.path(f"{folder}/{MANIFEST}")
        if self.exists(f"{folder}/{MANIFEST}"):
            self.filesystem.delete_file(manifest)
        self.remove_folder(folder)
        self.filesystem.create_dir(self.path(folder), recursive=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out of the run directory for as long as the block lasts.

        Two that write one artifact would commit a mixture of both. The lock ends with the process,
        however that ends. Raises UserError where another command has it; an object store has no locks,
        there `make` sees to it.
        """
        if not self.is_local:
            yield
            return
        Path(self.root).mkdir(parents=True, exist_ok=True)
        with Path(self.path(LOCK)).open("a") as lock:
            for is_last in (False, True):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if is_last:
                        raise UserError(
                            f"{self.uri}: another command is at work there: wait for it, or use another "
                            "--run-dir"
                        ) from error
                    time.sleep(LOOKED_AT_S)  # it may be `status`, which looks whether the lock is free
            yield

    def is_locked(self) -> bool:
        """Return whether a command is at work on a local run. An object store has no locks."""
        if not self.is_local:
            return False
        try:
            with Path(self.path(LOCK)).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    # Manifests.
    def manifest(self, folder: str) -> Manifest | None:
        """Return a committed folder's manifest, or None where there is no artifact."""
        try:
            return Manifest(**json.loads(self.read_text(f"{folder}/{MANIFEST}")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self.shown(folder)}/{MANIFEST} cannot be read ({error}): remove the folder to make it anew"
            ) from error

    def require(self, folder: str, command: str) -> Manifest:
        """Return a committed folder's manifest; raises UserError that names the command to run first."""
        manifest = self.manifest(folder)
        if manifest is None:
            raise UserError(f"{self.shown(folder)} is not there yet: run `alpagasus {command}` first")
        return manifest

    def committed(
        self, folder: str, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Manifest]
    ) -> Manifest | None:
        """Return a folder's manifest if it is committed for these settings and these inputs' content.

        An artifact in which something failed that may pass (a time-out, a server error) is not done.
        """
        there = self.manifest(folder)
        wanted = (stage, settings_hash(settings), {path: made.content for path, made in inputs.items()})
        if there is None or (there.stage, there.settings_hash, there.inputs) != wanted:
            return None
        # What failed for a passing reason is asked again; what was answered is in the ledger.
        return None if there.details.get("passing_failures") else there

    def make(
        self,
        folder: str,
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Manifest],
        work: Callable[[], Made],
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Manifest, bool]:
        """Return a folder's manifest, and whether work was needed for it.

        Where the folder is committed for the same settings and the same content of its inputs, nothing
        is done. Otherwise `check` may still raise while the old artifact stands; then the folder is
        cleared, `work` fills it, and the manifest is written last.
        """
        if there := self.committed(folder, stage, settings, inputs):
            return there, False
        self.on_event(stage, "begin", folder=folder)
        try:
            started_s = time.monotonic()
            check()
            self.clear(folder)
            claim = Claim(self, folder, MANIFEST)
            made = work()
            claim.check()
            manifest = self._manifest_of(folder, stage, settings, inputs, made, started_s)
            text = json.dumps(asdict(manifest), indent=2, sort_keys=True, ensure_ascii=False)
            self.write_text(f"{folder}/{MANIFEST}", text + "\n")
            claim.release()
        except BaseException as error:
            event, why = how_it_ended(error)
            self.on_event(stage, event, folder=folder, why=why)
            raise
        said = ("counts", "failures", "cost_usd", "wall_time_s")
        self.on_event(stage, "end", folder=folder, **{name: getattr(manifest, name) for name in said})
        return manifest, True

    def _manifest_of(
        self,
        folder: str,
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Manifest],
        made: Made,
        started_s: float,
    ) -> Manifest:
        return Manifest(
            stage=stage,
            settings_hash=settings_hash(settings),
            settings=json.loads(json.dumps(settings)),  # as it is read back: no tuples
            inputs={path: manifest.content for path, manifest in inputs.items()},
            content=made.content or self.content_of_files(folder),
            counts=dict(made.counts),
            failures=dict(made.failures),
            details=dict(made.details),
            cost_usd=made.cost_usd,
            wall_time_s=made.wall_time_s or round(time.monotonic() - started_s, 3),
            versions=package_versions(),
        )

    def content_of_files(self, folder: str, names: Iterable[str] | None = None) -> str:
        """Return a hash of the names and the bytes of a folder's files (all but the manifest)."""
        digest = hashlib.sha256()
        for name in sorted(self.list_files(folder) if names is None else names):
            if name in (MANIFEST, CLAIM):
                continue
            with self.filesystem.open_input_stream(self.path(f"{folder}/{name}")) as stream:
                file_digest = hashlib.sha256()
                while chunk := stream.read(1 << 22):
                    file_digest.update(chunk)
            digest.update(f"{name}\0{file_digest.hexdigest()}\n".encode())
        return digest.hexdigest()
