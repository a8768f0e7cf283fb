"""What is submitted: a stage with its flags, and the name that its jobs go by. Pure."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_section import holds_a_secret

STAGES = (
    "run",
    "grade",
    "select",
    "train",
    "serve",
    "generate",
    "benchmark",
    "compare",
    "mt-bench",
    "agreement",
    "report",
)
"""The commands that a cluster can do; jobs/ has an entry point for each."""
ADDRESS = r"[A-Za-z][\w+.-]*://"
"""The start of one, wherever it stands: several may be named, with commas between them."""
START = "python -m alpagasus_ray"
LASTING = "name a folder that all nodes share by its whole path, or an object store (s3://...)"
SENT_WITH_JOBS = "/runtime_resources/working_dir_files/"
"""In the path of a folder that a node got with a job."""


@dataclass(frozen=True)
class Submission:
    """One stage on one run directory."""

    stage: str
    arguments: tuple[str, ...]
    """The stage's own flags, as they were typed."""
    run_dir: str

    @property
    def entrypoint(self) -> str:
        """The command line that the cluster runs."""
        return f"{START} {shlex.join([self.stage, *self.arguments])}"

    @property
    def name(self) -> str:
        """What the jobs of this stage on this run directory are called, without the attempt's number."""
        digest = hashlib.sha256(self.run_dir.rstrip("/").encode()).hexdigest()[:8]
        last = re.sub(r"[^A-Za-z0-9]+", "-", PurePosixPath(self.run_dir.partition("?")[0]).name).strip("-")
        return "-".join(filter(None, ("alpagasus", self.stage, last[:30], digest)))

    def is_in_its_way(self, job_id: str | None) -> bool:
        """Return whether an id is of a job that fills the same run directory: two would commit a mixture.

        To serve fills none, and others may go on beside it.
        """
        others = {self.stage, *STAGES} - {"serve"} if self.stage != "serve" else {"serve"}
        return any(replace(self, stage=stage).attempt_of(job_id) is not None for stage in others)

    def job_id(self, attempt: int) -> str:
        """Return the id of an attempt: Ray takes none twice, even after its job's end."""
        return f"{self.name}-{attempt}"

    def attempt_of(self, job_id: str | None) -> int | None:
        """Return which attempt an id is of; None where it is another submission's."""
        found = re.fullmatch(rf"{re.escape(self.name)}-([0-9]+)", job_id or "")
        return int(found[1]) if found else None

    def next_attempt(self, job_ids: Iterable[str | None]) -> int:
        """Return the number after those that are taken."""
        return 1 + max((number for one in job_ids if (number := self.attempt_of(one))), default=0)


def check_holds_no_secret(stage: str, arguments: Sequence[str]) -> None:
    """Raise UserError for an address with a user or a key in it: a cluster shows jobs' command lines."""
    flag = stage
    for word in arguments:
        if word.startswith("-"):
            flag = word.partition("=")[0]
        value = word.partition("=")[2] if word.startswith("-") else word
        if any(holds_a_secret(value[found.start() :]) for found in re.finditer(ADDRESS, value)):
            key = f" {value.partition('=')[0]}" if flag == "--set" else ""
            raise UserError(
                f"{flag}{key}: this is an address with a user or a key in it, and a cluster shows its jobs' "
                "command lines: keys come from the environment of its nodes"
            )


def submission(stage: str, arguments: Sequence[str], run_dir: str | None) -> Submission:
    """Return what is to be submitted.

    Raises UserError for a run directory that would be lost with the job: it has to be one that all nodes
    reach; and for addresses with a key in them.
    """
    check_holds_no_secret(stage, arguments)
    if run_dir is None:
        raise UserError(f"a job needs --run-dir: {LASTING}")
    if "://" not in run_dir and not run_dir.startswith("/"):
        raise UserError(f"--run-dir {run_dir} is lost with its job: {LASTING}")
    return Submission(stage, tuple(arguments), run_dir)


def check_outlives_job(what: str, folder: str) -> None:
    """Raise UserError for a folder inside the one that Ray sent with a job, if a job is what this is.

    Ray removes that, with all that was written there. `what` it is, such as --run-dir, is part of the words.
    """
    path = PurePosixPath(os.path.abspath(os.path.expanduser(folder.removeprefix("file://"))))
    if ("://" not in folder or folder.startswith("file://")) and SENT_WITH_JOBS in str(path.parent):
        raise UserError(f"{what} {folder} is lost with this job: {LASTING}")
