"""Fine-tuning on a real Ray Train, two FSDP2 workers on gloo."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.storage import Storage
from alpagasus_ray.train.metering import StepMeter
from alpagasus_ray.train.metrics import read_metrics
from tests.cluster.nodes import Cluster
from tests.object_store import object_store
from tests.train.checkpoints import a_checkpoint_counts
from tests.train.test_metrics import STEP
from tests.train.tracked import event_curves

pytestmark = pytest.mark.slow


def train_command(run: RunDirectory, *flags: str) -> list[str]:
    return [sys.executable, "-m", "alpagasus_ray.cli", "train", "--arm", "full", "--run-dir", run.uri, *flags]


def tracked_steps(run: RunDirectory) -> list[int]:
    """Return the steps of the loss's curve in TensorBoard's files."""
    return [step for step, _ in event_curves(Path(run.path("models/full/logs")))["loss"]]


def losses(run: RunDirectory) -> list[float]:
    return [line["loss"] for line in read_metrics(Path(run.path("models/full/metrics.jsonl")))]


def train_on(cluster: Cluster, run: RunDirectory, *flags: str) -> subprocess.CompletedProcess[str]:
    """Train on a Ray that runs already."""
    return subprocess.run(
        train_command(run, *flags),
        env=cluster.of_commands,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def trained_run(
    two_cpus: Cluster,
    tmp_path_factory: pytest.TempPathFactory,
    make_selected_run: Callable[[Path], RunDirectory],
) -> RunDirectory:
    """A run whose training nobody disturbed."""
    run = make_selected_run(tmp_path_factory.mktemp("undisturbed"))
    done = train_on(two_cpus, run)
    assert done.returncode == 0, done.stderr
    return run


def test_two_workers_shard_the_model_and_export_what_transformers_loads(trained_run: RunDirectory) -> None:
    manifest = trained_run.manifest("models/full")
    assert manifest is not None
    assert manifest.details["workers"] == 2
    # Every parameter was a DTensor while training: FSDP2 was really on.
    sharded, _, tensors = manifest.details["sharded_tensors"].partition(" of ")
    assert sharded == tensors and int(tensors) > 10
    assert manifest.counts["steps"] == 8 == len(losses(trained_run))
    assert tracked_steps(trained_run) == [*range(1, 9)], "the first worker alone tracks"
    assert losses(trained_run)[-1] < losses(trained_run)[0] - 0.5, "it did not learn"

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained_run.path("models/full")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Name a fruit.", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=4, do_sample=False).shape[1] > ids["input_ids"].shape[1]

    # Done once: the same command has nothing to do, another setting has.
    again = subprocess.run(train_command(trained_run), capture_output=True, text=True, timeout=60, check=True)
    assert "done before" in again.stderr


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_losses(
    selected_run: RunDirectory, trained_run: RunDirectory
) -> None:
    with object_store("checkpoints") as address:
        elsewhere = ("--set", f"train.checkpoint_storage={address.replace('NAME', 'here')}")
        driver = subprocess.Popen(
            train_command(selected_run, *elsewhere), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        metrics = Path(selected_run.path("models/full/metrics.jsonl"))
        until_s = time.monotonic() + 300
        while len(read_metrics(metrics)) < 5:
            assert time.monotonic() < until_s and driver.poll() is None
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        time.sleep(3)
        assert selected_run.manifest("models/full") is None, "the kill came too late to show anything"

        again = train_command(selected_run, *elsewhere, "--set", "train.keep_checkpoints=2")
        subprocess.run(again, timeout=400, check=True, capture_output=True)
        kept = Storage(address.replace("NAME", "here/full")).list_files("")
    assert len({name.split("/")[1] for name in kept if name.endswith(".metadata")}) == 2
    manifest = selected_run.manifest("models/full")
    assert manifest is not None
    # Checkpoints are stored while training goes on: the one that was under way may not count.
    assert manifest.details["resumed_from_step"] in (2, 4, 6)
    assert losses(selected_run) == losses(trained_run)
    assert tracked_steps(selected_run) == [*range(1, 9)], "the curve goes on where the checkpoint stands"
    whole = trained_run.manifest("models/full")
    assert whole is not None and whole.content == manifest.content, "the weights differ"


def kill_a_worker(cluster: Cluster, run: RunDirectory, *flags: str) -> tuple[int, str]:
    """Train, kill one of two workers in the middle; return how the command ends, and what it says."""
    with subprocess.Popen(
        train_command(run, *flags), env=cluster.of_commands, stderr=subprocess.PIPE, text=True
    ) as driver:
        until_s = time.monotonic() + 300
        while not a_checkpoint_counts(run, "full"):
            assert time.monotonic() < until_s and driver.poll() is None
            time.sleep(0.02)
        workers = cluster.workers("RayTrainWorker")
        assert len(workers) == 2
        assert {one.environ().get("CUDA_VISIBLE_DEVICES") for one in workers} == {""}, "a card is another's"
        random.choice(workers).kill()
        _, out = driver.communicate(timeout=400)
    return driver.returncode, out


def test_a_lost_worker_that_is_not_forgiven_ends_in_one_line(
    two_cpus: Cluster, selected_run: RunDirectory
) -> None:
    status, out = kill_a_worker(two_cpus, selected_run, "--set", "train.max_failures=0")
    assert status == 2 and "Traceback" not in out
    assert re.search(r"a worker was lost at step \d.*max_failures \(0\).*same command goes on", out)


def test_a_killed_worker_is_replaced_and_the_losses_stay_the_same_to_the_bit(
    two_cpus: Cluster, selected_run: RunDirectory, trained_run: RunDirectory
) -> None:
    status, out = kill_a_worker(two_cpus, selected_run)
    assert status == 0, out
    manifest, whole = selected_run.manifest("models/full"), trained_run.manifest("models/full")
    assert manifest is not None and whole is not None
    assert manifest.details["resumed_from_step"] in (2, 4, 6)
    assert losses(selected_run) == losses(trained_run)
    assert manifest.content == whole.content, "the weights differ"


def test_rays_own_metrics_show_the_last_step() -> None:
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init("local", include_dashboard=False, log_to_driver=False, num_cpus=1, _metrics_export_port=port)
    try:
        StepMeter("filtered").show(STEP)
        until_s = time.monotonic() + 120
        page = ""
        while "alpagasus_train_loss_nats" not in page and time.monotonic() < until_s:
            time.sleep(1)
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                page = answer.read().decode()
    finally:
        ray.shutdown()
    (line,) = re.findall(r"^ray_alpagasus_train_loss_nats\{.*$", page, re.MULTILINE)
    assert 'arm="filtered"' in line and line.endswith(f" {STEP.loss}")


def test_a_loss_that_is_not_finite_ends_in_one_line(two_cpus: Cluster, selected_run: RunDirectory) -> None:
    too_fast = ("--learning-rate", "1e30", "--set", "train.max_gradient_norm=1e30")
    done = train_on(two_cpus, selected_run, *too_fast)
    assert done.returncode == 2, done.stderr
    assert "not finite at step" in done.stderr
    assert "Traceback" not in done.stderr
    assert selected_run.manifest("models/full") is None


FAILS_AT_PASS_5 = """
import importlib.abc, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "alpagasus_ray.train.worker":
            sys.meta_path.remove(self)
            import torch
            passes = []
            def count(module, args):
                if type(module).__name__.endswith("LlamaForCausalLM") and torch.distributed.get_rank() == 1:
                    passes.append(1)
                    if len(passes) == 5:
                        raise torch.OutOfMemoryError("CUDA out of memory.")
            torch.nn.modules.module.register_module_forward_pre_hook(count)

sys.meta_path.insert(0, Finder())
"""
"""The second worker finds no memory in its fifth pass: two a step."""


def test_one_worker_out_of_memory_stops_all_with_one_line(selected_run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAILS_AT_PASS_5)
    done = subprocess.run(
        train_command(selected_run),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])},
    )
    assert done.returncode == 2, done.stderr
    assert "out of memory on the host at step 3: try train.micro_batch_size=2" in done.stderr
    assert "Traceback" not in done.stderr
    assert selected_run.manifest("models/full") is None


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_tracker_that_is_not_installed_is_said_before_training(selected_run: RunDirectory) -> None:
    command = train_command(selected_run, "--set", "train.trackers=[tensorboard, wandb]")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "pip install wandb" in done.stderr and "Traceback" not in done.stderr


def test_more_workers_than_the_machine_has_is_said_before_training(
    two_cpus: Cluster, selected_run: RunDirectory
) -> None:
    done = train_on(two_cpus, selected_run, "--workers", "512")
    assert done.returncode == 2
    assert "512 workers" in done.stderr


def test_deepspeed_trains_to_the_same_losses(
    two_cpus: Cluster, selected_run: RunDirectory, trained_run: RunDirectory
) -> None:
    done = train_on(two_cpus, selected_run, "--strategy", "deepspeed", "--set", "train.zero_stage=3")
    assert done.returncode == 0, done.stderr
    assert losses(selected_run) == pytest.approx(losses(trained_run), abs=1e-4)
    manifest = selected_run.manifest("models/full")
    assert manifest is not None and manifest.details["strategy"] == "deepspeed"
