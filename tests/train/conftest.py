from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import plain_console
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.recipe import CorpusSettings, Recipe
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.select.selecting import select
from tests.cluster.nodes import Cluster, started_nodes


@pytest.fixture(scope="package")
def two_cpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Ray that runs already: each command that starts its own takes 10 s longer."""
    with started_nodes(tmp_path_factory.mktemp("two-cpus"), cpus=(2,)) as started:
        yield started


@pytest.fixture(scope="session")
def train_recipe(tiny_model: Path) -> Recipe:
    """Two FSDP2 workers, 4 steps of 16 rows an epoch, 2 epochs, a checkpoint every 2 steps."""
    train = {
        "model": str(tiny_model),
        "workers": 2,
        "epochs": 2,
        "learning_rate": 1e-3,
        "global_batch_size": 16,
        "micro_batch_size": 4,
        "max_length_tokens": 256,
        "precision": "fp32",
        "checkpoint_every_steps": 2,
    }
    return parse_recipe({"train": train, "arms": {"full": {"selector": "full"}}})


@pytest.fixture(scope="session")
def make_selected_run(train_recipe: Recipe) -> Callable[[Path], RunDirectory]:
    """Makes a run directory in a folder, with an arm of 64 rows."""

    def make(folder: Path) -> RunDirectory:
        data = folder / "data.json"
        data.write_text(json.dumps(generate_rows(64, 0.5, 1)))
        run = RunDirectory(str(folder / "run"))
        commit_corpus(run, CorpusSettings(data=str(data)), plain_console())
        select(run, train_recipe, "full", plain_console())
        run.write_text(run.recipe, train_recipe.to_yaml())
        return run

    return make


@pytest.fixture
def selected_run(tmp_path: Path, make_selected_run: Callable[[Path], RunDirectory]) -> RunDirectory:
    """A run directory with an arm of 64 rows."""
    return make_selected_run(tmp_path)
