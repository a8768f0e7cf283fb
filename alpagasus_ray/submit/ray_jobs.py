"""Ray's job server, asked so that every answer is a result or one clear line. The wiring."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import ray
import requests
from ray._private import ray_constants
from ray._private.runtime_env import packaging
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import alpagasus_ray
from alpagasus_ray.errors import UserError
from alpagasus_ray.submit.submission import Submission
from alpagasus_ray.submit.working_folder import WorkingFolder

NOT_SENT = ("/runs/", "/ledger/")
"""Results, which stay where they are. Ray itself leaves out .git, .venv, and what .gitignore names."""
LIMIT_BYTES = min(packaging.GCS_STORAGE_MAX_SIZE, ray_constants.DASHBOARD_CLIENT_MAX_SIZE)
ADDRESS = "RAY_API_SERVER_ADDRESS"
TIMEOUT_S = (5.0, 15.0)
"""To connect, and for the answer: together with Ray's own start less than half a minute."""
SENDING_TIMEOUT_S = (5.0, 120.0)
STARTING_S = 30.0
"""A cluster that has just come up takes jobs some seconds later."""
SILENCE_S = 60.0
QUIET_S = 20.0
"""Without a line the server is asked whether it is there at all: of a link that was cut nothing is heard."""
RENEW_S = 600.0
"""Without a line the log is asked for anew, from its start: the link may be gone though the server is not."""
POLL_S = 1.0
STOPPED = 130


class JobServer(JobSubmissionClient):  # type: ignore[misc]
    """The job server of one cluster."""

    def __init__(self, address: str) -> None:
        """Look whether a cluster of our own Ray's version is there.

        Raises UserError where there is none, it wants another token, or its Ray is another.
        """
        # What Ray would say on the way is said in our own words.
        logging.disable(logging.ERROR)
        self._where = address
        # Ray lets the environment win over an address that it is given.
        os.environ[ADDRESS] = address
        self._told(partial(super().__init__, address))
        if self._server_ray_version != ray.__version__:
            raise UserError(
                f"the cluster at {address} runs Ray {self._server_ray_version} and this is Ray "
                f"{ray.__version__}: install the cluster's version here, or this one there"
            )

    def submit(
        self, wanted: Submission, folder: Path, excludes: Sequence[str], install: str | None
    ) -> tuple[str, bool]:
        """Return the id of the submission's job, and whether it was started now.

        The same line that still runs is not started twice, whoever comes first. Raises UserError where
        another job is at work in the run directory: another stage, or the same with other flags.
        """
        environment: dict[str, Any] = {
            "working_dir": str(folder),
            "excludes": [*NOT_SENT, *excludes],
            # The code that checked the flags is the code that runs them.
            "py_modules": [str(Path(alpagasus_ray.__file__).parent)],
        }
        if install is not None:
            environment["pip"] = install
        until_s = time.monotonic() + STARTING_S
        while True:
            jobs = self.jobs()
            if (running := _at_work(wanted, jobs)) is not None:
                return str(running.submission_id), False
            job_id = wanted.job_id(wanted.next_attempt(job.submission_id for job in jobs))
            try:
                self._told(
                    partial(
                        self.submit_job,
                        entrypoint=wanted.entrypoint,
                        submission_id=job_id,
                        runtime_env=environment,
                    )
                )
            except UserError as error:
                another_was_first = "already exists" in str(error)
                is_starting = "No available agent" in str(error) and time.monotonic() < until_s
                if not (another_was_first or is_starting):
                    raise
                time.sleep(POLL_S)
                continue
            return job_id, True

    def jobs(self) -> list[JobDetails]:
        """Return all jobs that were submitted to this cluster, the oldest first."""
        listed: list[JobDetails] = self._told(self.list_jobs)
        return sorted((job for job in listed if job.submission_id), key=lambda job: job.start_time or 0)

    def details(self, job_id: str) -> JobDetails:
        """Return what is known of a job; raises UserError where there is none of this id."""
        return self._told(partial(self.get_job_info, job_id))

    def log(self, job_id: str) -> str:
        """Return what a job has said so far."""
        return str(self._told(partial(self.get_job_logs, job_id)))

    def stop(self, job_id: str) -> bool:
        """Stop a job; return whether it was running."""
        return bool(self._told(partial(self.stop_job, job_id)))

    def follow(self, job_id: str, write: Callable[[str], None]) -> JobDetails:
        """Hand on a job's log as it grows, until the job has ended; return how it did.

        A connection that is lost is made again. Raises UserError where the cluster is silent for SILENCE_S.
        """
        shown, heard_s = 0, time.monotonic()

        async def tail() -> bool:
            """Return whether this came to the log's end; it also ends where the link may be gone."""
            nonlocal shown, heard_s
            seen, log, last_s = 0, self.tail_job_logs(job_id), time.monotonic()
            while True:
                coming = asyncio.ensure_future(anext(log, None))
                while not (await asyncio.wait({coming}, timeout=QUIET_S))[0]:
                    job = self.details(job_id)
                    heard_s = time.monotonic()
                    if job.status.is_terminal() or heard_s - last_s > RENEW_S:
                        return False
                if (lines := coming.result()) is None:
                    return True
                new = lines[max(0, shown - seen) :]
                seen += len(lines)
                shown, heard_s = max(shown, seen), time.monotonic()
                last_s = heard_s
                write(new)

        while True:
            try:
                is_whole = asyncio.run(tail())
                job = self.details(job_id)
                if job.status.is_terminal():
                    # The log may be gone with its node; how the job did is known all the same.
                    with suppress(UserError):
                        write("" if is_whole else self.log(job_id)[shown:])
                    return job
                heard_s = time.monotonic()
            except (UserError, aiohttp.ClientError, RuntimeError, OSError) as error:
                if time.monotonic() - heard_s > SILENCE_S:
                    raise UserError(
                        f"the cluster at {self._where} has not answered for {SILENCE_S:g} s; {job_id} may "
                        "go on: the same command follows it again"
                    ) from error
            time.sleep(POLL_S)

    def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
        # Ray's own requests wait for ever.
        limits = TIMEOUT_S if method == "GET" else SENDING_TIMEOUT_S
        return super()._do_request(method, endpoint, timeout=limits, **given)

    def _told(self, ask: Callable[[], Any]) -> Any:
        """Return an answer of Ray's client, or raise what is wrong as a UserError."""
        try:
            return ask()
        except AuthenticationError as error:
            raise UserError(_token_line(self._where, str(error))) from error
        except (requests.exceptions.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{_no_cluster(self._where)}: another server answers there") from error
        except requests.exceptions.Timeout as error:
            raise UserError(f"{_no_cluster(self._where)}: no answer within {TIMEOUT_S[1]:g} s") from error
        except (requests.exceptions.RequestException, ConnectionError) as error:
            raise UserError(f"{_no_cluster(self._where)}: {_why(error)}") from error
        except (RuntimeError, ValueError) as error:
            raise UserError(_refusal(self._where, str(error))) from error


def working_folder(folder: Path, excludes: Sequence[str]) -> WorkingFolder:
    """Return what Ray would send of a folder."""
    sizes: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size

    left_out = [*ray_constants.get_runtime_env_default_excludes(), *NOT_SENT, *excludes]
    ours = packaging._get_excludes(folder, left_out)
    honours_gitignore = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    logging.disable(logging.ERROR)
    packaging._dir_travel(folder, [ours], add, include_gitignore=honours_gitignore)
    return WorkingFolder(folder, sizes)


def exit_status(job: JobDetails) -> int:
    """Return what the job's own command returned, as a shell would say it."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return STOPPED
    code: int = 1 if job.driver_exit_code is None else job.driver_exit_code
    return 128 - code if code < 0 else code or 1


def _at_work(wanted: Submission, jobs: Sequence[JobDetails]) -> JobDetails | None:
    for job in jobs:
        if job.status.is_terminal() or not wanted.is_in_its_way(job.submission_id):
            continue
        if job.entrypoint == wanted.entrypoint:
            return job
        raise UserError(
            f"{job.submission_id} is at work in {wanted.run_dir} with another command line: wait for its "
            f"end, or stop it with `alpagasus jobs stop {job.submission_id}`"
        )
    return None


def _no_cluster(address: str) -> str:
    return f"no Ray cluster takes jobs at {address}"


def _why(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    words = f"{error} {error.__context__}".lower()  # of Ray's own ConnectionError the cause
    known = ("connection refused", "name or service not known", "certificate", "no route to host")
    return next((one for one in known if one in words), "it cannot be connected to")


def _token_line(address: str, words: str) -> str:
    is_sent = os.environ.get("RAY_AUTH_MODE") == "token"
    if "Missing" in words or not is_sent:
        return (
            f"the cluster at {address} wants a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or "
            "RAY_AUTH_TOKEN_PATH) to the cluster's"
        )
    return f"the cluster at {address} has another token: set RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that"


def _refusal(address: str, words: str) -> str:
    if "Version check returned 404" in words:
        return f"{_no_cluster(address)}: another server answers there"
    words = re.sub(r"^Request failed with status code \d+: ", "", words)
    if found := re.search(r"Job (\S+) does not exist", words):
        return (
            f"the cluster at {address} has no job {found[1]}: see `alpagasus jobs list --address {address}`"
        )
    # Of a traceback the last line, where the reason stands.
    lines = [line for line in words.splitlines() if line.strip(" .")]
    return f"the cluster at {address} refused: {lines[-1].strip() if lines else words}"
