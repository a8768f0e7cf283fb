"""A training whose host loses its link goes on with the other, and comes to the same losses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.train.job_files import records_here
from alpagasus_ray.train.metrics import read_metrics
from tests.cluster.hosts import SOON_NOTICED
from tests.cluster.network import why_no_hosts
from tests.cluster.submitted import done, site, wait_until
from tests.train.checkpoints import a_checkpoint_counts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.skipif(why_no_hosts() is not None, reason=str(why_no_hosts())),
]
SETTINGS = (
    "toyworld.num_rows=300",
    "toyworld.prompts_per_testset=7",
    "arms={lost: {selector: full}, undisturbed: {selector: full}}",
    "compare.pairs=[]",
    "train.epochs=6",
    "train.min_workers=1",
    "train.checkpoint_every_steps=10",
)
NUM_STEPS = 114


def steps(run: RunDirectory, arm: str) -> list[dict[str, Any]]:
    """Return what each step of a training has left behind."""
    with records_here(run.child_uri(f"models/{arm}")) as folder:
        return read_metrics(folder / "metrics.jsonl")


def test_a_host_whose_link_is_cut_while_it_trains(tmp_path: Path) -> None:
    with site(tmp_path, **SOON_NOTICED) as here:
        run = RunDirectory(here.address("runs/trained"))
        flags = ["--recipe", "demo", "--run-dir", run.uri]
        flags += [word for setting in SETTINGS for word in ("--set", setting)]
        for arm in ("lost", "undisturbed"):
            done(here.submit("select", "--arm", arm, *flags, folder=tmp_path))
        done(here.submit("train", "--arm", "undisturbed", *flags, folder=tmp_path))

        job = here.submit("train", "--arm", "lost", *flags, folder=tmp_path)
        wait_until(lambda: a_checkpoint_counts(run, "lost"), job)
        here.hosts.network.cut(2)
        out = done(job)
        assert "Traceback" not in out, out
        lost, undisturbed = steps(run, "lost"), steps(run, "undisturbed")
    assert [step["step"] for step in lost] == list(range(1, NUM_STEPS + 1))
    assert [number for number, _ in itertools.groupby(step["workers"] for step in lost)] == [2, 1]
    assert {step["workers"] for step in undisturbed} == {2}
    losses = [[step["loss"] for step in one] for one in (lost, undisturbed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
