"""A run goes on when a host, its link, its disk, the driver or the object store fails in mid-stage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import SOON_NOTICED
from tests.cluster.network import why_no_hosts
from tests.cluster.submitted import Site, Submitted, done, site
from tests.grading_runs import ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
DISK_BYTES = 300 << 20
TRIED_AGAIN_AT_ONCE = {"BAD_RUNTIME_ENV_CACHE_TTL_SECONDS": "1"}
"""A node that could not prepare a job: Ray leaves it alone for ten minutes otherwise."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("hosts"), DISK_BYTES, **SOON_NOTICED, **TRIED_AGAIN_AT_ONCE) as built:
        yield built


@pytest.fixture
def grading(tmp_path: Path, here: Site) -> Iterator[Submitted]:
    with here.endpoint() as endpoint:
        yield Submitted(tmp_path, endpoint, here)


@pytest.fixture
def lost(here: Site) -> Iterator[list[int]]:
    """To be filled with the hosts that a test loses: others take their places afterwards."""
    numbers: list[int] = []
    yield numbers
    for number in numbers:
        here.hosts.give_back(number)


def test_a_worker_host_whose_link_is_cut(here: Site, grading: Submitted, lost: list[int]) -> None:
    job = grading.started()
    lost.append(grading.busy_host())
    here.hosts.network.cut(lost[0])
    grading.check_complete(done(job))


def test_all_processes_of_a_worker_host_are_killed(here: Site, grading: Submitted, lost: list[int]) -> None:
    job = grading.started()
    lost.append(grading.busy_host())
    here.hosts.network.kill(lost[0])
    grading.check_complete(done(job))


def test_the_driver_on_the_head_is_killed_and_the_same_line_submitted_again(
    here: Site, grading: Submitted
) -> None:
    job = grading.started()
    for driver in here.hosts.workers("alpagasus_ray grade", 0):
        driver.kill()
    out, code = ended(job)
    assert code not in (0, 2) and "-1 has failed" in out, out
    grading.check_complete(done(grading.start()))


@pytest.mark.parametrize("answered", [0.1, 0.8])
def test_the_object_store_answers_503_for_20_s(here: Site, grading: Submitted, answered: float) -> None:
    job = grading.started(answered)
    here.refusals.are_on = True
    threading.Timer(20, setattr, (here.refusals, "are_on", False)).start()
    grading.check_complete(done(job), lost_at_most=0)


def test_the_disk_of_a_worker_host_is_full(here: Site, grading: Submitted) -> None:
    job = grading.started()
    filler = here.hosts.disk(1) / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as full:
        while True:
            full.write(bytes(1 << 20))
    try:
        out = done(job)
        out_of_another, code = ended(grading.start("--set", "grade.num_actors=4", run="another"))
    finally:
        filler.unlink()
    assert code == 2 and "Traceback" not in out_of_another, out_of_another
    assert f"node {here.hosts.network.address_of(1)} cannot take part in the job: " in out_of_another
    assert "No space left on device. Mend it" in out_of_another
    grading.check_complete(out)
