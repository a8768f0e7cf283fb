"""A run goes on when a host, its link, its disk, the driver or the object store fails in mid-stage."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.train.job_files import records_here
from alpagasus_ray.train.metrics import read_metrics
from tests.cluster.hosts import SOON_NOTICED
from tests.cluster.network import why_no_hosts
from tests.cluster.submitted import LATENCY_S, Site, Submitted, done, site, wait_until
from tests.grading_runs import ended
from tests.train.checkpoints import a_checkpoint_counts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
DISK_BYTES = 300 << 20
TRIED_AGAIN_AT_ONCE = {"BAD_RUNTIME_ENV_CACHE_TTL_SECONDS": "1"}
"""A node that could not prepare a job: Ray leaves it alone for ten minutes otherwise."""
TRAINING = (
    "toyworld.num_rows=300",
    "toyworld.prompts_per_testset=7",
    "arms={lost: {selector: full}, undisturbed: {selector: full}}",
    "compare.pairs=[]",
    "train.epochs=6",
    "train.min_workers=1",
    "train.checkpoint_every_steps=10",
)
NUM_STEPS = 114


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
    with kept_full(here.hosts.disk(1)):
        out = done(job)
    grading.check_complete(out)

    # What is sent with a job is new: a node that has it already needs no room for it.
    (grading.folder / "notes.txt").write_text("another")
    # More actors than the other host has room for, and no reply to be had before they start.
    needs_both = ("--set", "grade.num_actors=8", "--set", f"ledger={grading.address('its-ledger')}")
    grading.endpoint.latency_s = 20.0
    with kept_full(here.hosts.disk(1)):
        refused, code = ended(grading.start(*needs_both, run="another"))
    assert code == 2, refused
    assert "Traceback" not in refused, refused
    assert f"node {here.hosts.network.address_of(1)} cannot take part in the job: " in refused
    assert "No space left on device. Mend it" in refused
    grading.endpoint.latency_s = LATENCY_S
    done(grading.start(*needs_both, run="another"))
    assert grading.scores("another") == grading.scores()


@contextmanager
def kept_full(disk: Path) -> Iterator[None]:
    """Fill a disk, and whatever becomes free on it, for as long as the block lasts."""
    filler, is_over = disk / "filler", threading.Event()

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while not is_over.wait(0.02):
                for size in (1 << 20, 1 << 12):
                    with suppress(OSError):
                        while file.write(bytes(size)) == size:
                            pass

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        yield
    finally:
        is_over.set()
        filling.join()
        filler.unlink()


def steps(run: RunDirectory, arm: str) -> list[dict[str, Any]]:
    """Return what each step of a training has left behind."""
    with records_here(run.child_uri(f"models/{arm}")) as folder:
        return read_metrics(folder / "metrics.jsonl")


@pytest.mark.timeout(1200)
def test_a_host_whose_link_is_cut_while_it_trains(here: Site, tmp_path: Path, lost: list[int]) -> None:
    run = RunDirectory(here.address("runs/trained"))
    flags = ["--recipe", "demo", "--run-dir", run.uri]
    flags += [word for setting in TRAINING for word in ("--set", setting)]

    def locally(*command: str) -> None:
        line = [sys.executable, "-m", "alpagasus_ray", command[0], *flags, *command[1:]]
        ran = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ran.returncode == 0, ran.stderr

    for arm in ("lost", "undisturbed"):
        locally("select", "--arm", arm)
    job = here.submit("train", "--arm", "lost", *flags, folder=tmp_path)
    wait_until(lambda: a_checkpoint_counts(run, "lost"), job)
    lost.append(2)
    here.hosts.network.cut(2)
    out = done(job)
    assert "Traceback" not in out, out
    alone = ("--strategy", "single", "--workers", "1", "--set", "train.min_workers=null")
    locally("train", "--arm", "undisturbed", *alone)
    went_on, undisturbed = steps(run, "lost"), steps(run, "undisturbed")
    assert [step["step"] for step in went_on] == list(range(1, NUM_STEPS + 1))
    assert [number for number, _ in itertools.groupby(step["workers"] for step in went_on)] == [2, 1]
    losses = [[step["loss"] for step in one] for one in (went_on, undisturbed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
