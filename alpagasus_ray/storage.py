"""Files in a local folder or an object store: whatever pyarrow.fs can open."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_section import holds_a_secret
from alpagasus_ray.text_files import in_haste

PARTIAL = ".partial"
"""So ends the name of a file that is not whole yet; of a killed process it stays, and counts for nothing."""
S3_ATTEMPTS = 10
"""More than a minute in all. Arrow's own patience with an S3 store that answers 503 ends after 6 s; Google's
stores are asked for 15 minutes anyway."""


def last_part(address: str) -> str:
    """Return what a file or folder is called, whatever follows a question mark in its address.

    >>> last_part("s3://bucket/runs/models/full/?region=us-east-1")
    'full'
    """
    path = address.partition("?")[0] if "://" in address else address
    return Path(path.rstrip("/")).name


def is_of_an_object_store(error: Exception) -> bool:
    """Return whether a store has failed for longer than it is asked again (Arrow has no class for that)."""
    return type(error) is OSError and error.errno is None


class PatientS3(fs.S3FileSystem):  # type: ignore[misc]
    """An S3 store that may fail for a while: what is asked of it is asked again, in other processes too."""

    def __init__(self, **options: Any) -> None:
        """Take the options that Arrow reads out of an address."""
        super().__init__(**options, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=S3_ATTEMPTS))

    def __reduce__(self) -> tuple[Any, ...]:
        _, (options,) = super().__reduce__()
        return _patient_s3, (options,)


def _patient_s3(options: dict[str, Any]) -> PatientS3:
    return PatientS3(**options)


class Storage:
    """A folder of files, named relative to it. What it is called in errors is `what`."""

    what = "the folder"
    is_patient = True
    """Whether a store that fails is asked again for a minute or more, before it is an error."""

    def __init__(self, uri: str) -> None:
        """Open the folder; it need not be there yet. Raises UserError for an address that is none."""
        if holds_a_secret(uri):
            raise UserError(
                f"{self.what}: its address has a user or a key in it: keys come from the environment"
            )
        self.uri = uri.rstrip("/")
        self.is_local = "://" not in uri or uri.startswith("file://")
        try:
            if self.is_local:
                self.root = str(Path(uri.removeprefix("file://")).expanduser().resolve())
                self.filesystem: fs.FileSystem = fs.LocalFileSystem()
            else:
                self.filesystem, self.root = fs.FileSystem.from_uri(self.uri)
                self._hasty = in_haste(self.filesystem)
                if self.is_patient and isinstance(self._hasty, fs.S3FileSystem):
                    self.filesystem = _patient_s3(*self._hasty.__reduce__()[1])
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.what} {uri} cannot be opened: {_in_one_line(error)}") from error

    def check(self) -> None:
        """Make the folder; raises UserError where nothing can be written."""
        try:
            if not self.is_local:
                self._hasty.get_file_info(self.root)  # a wrong address is said within seconds
            self.filesystem.create_dir(self.root, recursive=True)
            probe = _partial("probe")
            self.write_bytes(probe, b"")
            self.remove(probe)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.what} {self.uri} cannot be written to: {_in_one_line(error)}") from error

    def check_readable(self) -> None:
        """Raise UserError where the folder is in an object store that does not answer, or lets us not in."""
        if self.is_local:
            return
        try:
            self._hasty.get_file_info(self.root)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self.what} {self.uri} cannot be read: {_in_one_line(error)}") from error

    def child_uri(self, name: str) -> str:
        """Return the address of a folder in this one, whole, for other processes and machines.

        What follows a question mark (an S3 endpoint, a region) stays at the end.
        """
        if self.is_local:
            return f"{self.root}/{name}"
        address, mark, options = self.uri.partition("?")
        return f"{address.rstrip('/')}/{name}{mark}{options}"

    def shown(self, relative: str) -> str:
        """Return what users call a file: the folder's address as given, without options, and a name."""
        address = self.uri if self.is_local else self.uri.partition("?")[0].rstrip("/")
        return f"{address}/{relative}"

    def path(self, relative: str) -> str:
        """Return the path that `filesystem` knows this by."""
        return f"{self.root}/{relative}".rstrip("/")

    def exists(self, relative: str) -> bool:
        """Return whether there is a file or a folder of this name."""
        return bool(self.filesystem.get_file_info(self.path(relative)).type != fs.FileType.NotFound)

    def is_file(self, relative: str) -> bool:
        """Return whether there is a file of this name."""
        return bool(self.filesystem.get_file_info(self.path(relative)).type == fs.FileType.File)

    def size_bytes(self, relative: str) -> int:
        """Return a file's length; 0 where there is none."""
        return int(self.filesystem.get_file_info(self.path(relative)).size or 0)

    def read_text(self, relative: str, errors: str = "strict") -> str:
        """Return a UTF-8 file's text; raises FileNotFoundError. `errors` is what `bytes.decode` takes."""
        with self.filesystem.open_input_stream(self.path(relative)) as stream:
            return bytes(stream.read()).decode("utf-8", errors)

    def write_text(self, relative: str, text: str) -> None:
        """Write a UTF-8 file in one step: a reader sees the old text or the new, never a part."""
        self.write_bytes(relative, text.encode("utf-8"))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a file in one step: a reader sees the old bytes or the new, never a part."""
        with self.writing(relative) as stream:
            stream.write(data)

    @contextmanager
    def writing(self, relative: str) -> Iterator[pa.NativeFile]:
        """Give a stream to a file that takes its place when the block ends.

        Where the block raises, the old file stays; not so in an object store, which may keep a part: that is
        for files of an artifact, whose manifest is missing then.
        """
        target = self.path(relative)
        if not self.is_local:
            # An object store shows an object when it is whole; a local file needs a rename for that.
            with self.filesystem.open_output_stream(target) as stream:
                yield stream
            return
        self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
        # Others may write the same file at this moment: each its own, and the last rename counts.
        written = _partial(target)
        try:
            with self.filesystem.open_output_stream(written) as stream:
                yield stream
            self.filesystem.move(written, target)
        except BaseException:
            with suppress(OSError):
                Path(written).unlink()
            raise

    def put_folder(self, folder: Path, relative: str) -> None:
        """Copy all files of a local folder to here; those that are there already are replaced."""
        self.filesystem.create_dir(self.path(relative), recursive=True)
        fs.copy_files(
            str(folder),
            self.path(relative),
            source_filesystem=fs.LocalFileSystem(),
            destination_filesystem=self.filesystem,
        )

    def remove(self, relative: str) -> None:
        """Remove a file."""
        self.filesystem.delete_file(self.path(relative))

    def list_files(self, folder: str) -> list[str]:
        """Return the names of all whole files below a folder ("": of all), relative to it, sorted."""
        prefix = self.path(folder)
        infos = self.filesystem.get_file_info(fs.FileSelector(prefix, recursive=True, allow_not_found=True))
        paths = [info.path for info in infos if info.type == fs.FileType.File]
        return sorted(path[len(prefix) + 1 :] for path in paths if not path.endswith(PARTIAL))


def _partial(name: str) -> str:
    return f"{name}.{uuid.uuid4().hex}{PARTIAL}"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
