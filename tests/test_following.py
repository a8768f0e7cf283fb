"""A job's log is followed over a link that may go, without a word or with one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from alpagasus_ray.errors import UserError
from tests.job_server import JOB, Job, job_server

if TYPE_CHECKING:
    from alpagasus_ray.submit.ray_jobs import JobServer

pytestmark = pytest.mark.slow
WITHIN_S = 30.0
SILENCE_S = 2.0


class Followed:
    """A job that is followed in the background."""

    def __init__(self, job: Job, server: JobServer) -> None:
        self.job, self.text = job, ""
        self.ended: Any = None
        self._server = server
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            self.ended = self._server.follow(JOB, self._write)
        except UserError as error:
            self.ended = error

    def _write(self, text: str) -> None:
        self.text += text

    def result(self) -> Any:
        self._thread.join(WITHIN_S)
        assert not self._thread.is_alive(), "it hangs"
        return self.ended


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    from alpagasus_ray.submit import ray_jobs

    for name, value in (
        ("QUIET_S", 0.2),
        ("SILENCE_S", SILENCE_S),
        ("POLL_S", 0.05),
        ("TIMEOUT_S", (0.3, 0.3)),
    ):
        monkeypatch.setattr(ray_jobs, name, value)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    job = Job(log="first\n")
    with job_server(job) as address:
        try:
            followed = Followed(job, ray_jobs.JobServer(address))
            wait_until(lambda: followed.text == "first\n")
            yield followed
        finally:
            job.status, job.is_cut = "SUCCEEDED", False
            logging.disable(logging.NOTSET)


def wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_job_that_says_nothing_for_long_stays_followed_over_the_same_link(followed: Followed) -> None:
    time.sleep(1.5 * SILENCE_S)
    assert followed.ended is None
    assert followed.job.asked.count(f"/api/jobs/{JOB}") > 3, "the server is asked meanwhile"
    followed.job.log += "last\n"
    wait_until(lambda: followed.text == "first\nlast\n")
    followed.job.status = "SUCCEEDED"
    assert followed.result().status == "SUCCEEDED"
    assert (followed.text, followed.job.tails) == ("first\nlast\n", 1)


def test_a_link_that_is_cut_without_a_word_is_told(followed: Followed) -> None:
    followed.job.is_cut = True
    ended = followed.result()
    assert isinstance(ended, UserError)
    assert f"has not answered for 2 s; {JOB} may go on" in str(ended)


def test_a_link_that_is_cut_for_a_moment_loses_nothing(followed: Followed) -> None:
    followed.job.is_cut = True
    followed.job.log += "second\n"
    time.sleep(SILENCE_S / 4)
    followed.job.is_cut = False
    followed.job.log += "last\n"
    followed.job.status = "SUCCEEDED"
    assert followed.result().status == "SUCCEEDED"
    assert followed.text == "first\nsecond\nlast\n"


def test_the_end_of_a_job_is_seen_though_its_link_is_gone(followed: Followed) -> None:
    followed.job.old_links_are_cut = True
    time.sleep(0.1)
    followed.job.log += "last\n"
    followed.job.status = "FAILED"
    assert followed.result().status == "FAILED"
    assert followed.text == "first\nlast\n"


def test_a_quiet_link_is_renewed_now_and_then(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    from alpagasus_ray.submit import ray_jobs

    monkeypatch.setattr(ray_jobs, "RENEW_S", 0.1)
    followed.job.old_links_are_cut = True
    time.sleep(0.1)
    followed.job.log += "second\n"
    wait_until(lambda: followed.text == "first\nsecond\n")
