"""A real model behind the real endpoint reaches what lm-eval's own `hf` model reaches with its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.benchmark.benchmarking import Benchmarks
from alpagasus_ray.benchmarking import do_benchmarks
from alpagasus_ray.console import Console
from alpagasus_ray.manifests import Made
from alpagasus_ray.recipe_files import parse_recipe
from tests.benchmark.local_tasks import SUMS, WORDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NUM_CHOICES = 24
KEY_ENV, KEY = "ALPAGASUS_BENCHMARK_KEY", "sk-of-the-served-arms"
COLOURS = ("red", "green", "blue", "yellow")
TEXTS = [
    f"Question: {i} + {i} =\nAnswer: {2 * i}. Say what comes after {i}: {' '.join(COLOURS)}"
    for i in range(99)
]


@pytest.fixture
def trained(run: RunDirectory) -> RunDirectory:
    """A run whose arm `ada` has a model: a tiny one, as training would leave it."""
    from alpagasus_ray.train.tiny_model import build_tiny_model

    def make() -> Made:
        build_tiny_model(Path(run.child_uri(run.model("ada"))), TEXTS)
        return Made()

    run.make(run.model("ada"), "train", {}, {}, make)
    return run


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray on this machine, which has the endpoint's key in its environment."""
    import ray

    monkeypatch.setenv(KEY_ENV, KEY)
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield
    ray.shutdown()


def greedy(folder: Path, prompts: list[str]) -> list[str]:
    """Return what transformers itself says after each prompt, up to the end of the line."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    said = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids["input_ids"].shape[1] :]
        said.append(tokenizer.decode(made, skip_special_tokens=True).split("\n")[0])
    return said


def write_tasks(folder: Path, model: Path) -> dict[str, Path]:
    """Two shots before each sum; of the words, five of eight are what this model says."""
    rows = [
        {
            "question": f"{n} + {n} =",
            "choices": [COLOURS[(n + k) % 4] for k in range(4)],
            "label": n % 4,
        }
        for n in range(NUM_CHOICES)
    ]
    said = greedy(model, [f"Say what comes after {n}:" for n in range(8)])
    words = [{"number": n, "after": text if n < 5 else "never this"} for n, text in enumerate(said)]
    folder.mkdir()
    files = {"sums": folder / "sums.yaml", "words": folder / "words.yaml"}
    for name, data in (("sums", rows), ("words", words)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    files["sums"].write_text(SUMS + "fewshot_split: test\nnum_fewshot: 2\n")
    files["words"].write_text(WORDS)
    return files


def by_hf(model: Path, file: Path, seed: int) -> dict[str, Any]:
    """Return the figures of lm-eval's own model on transformers."""
    import lm_eval

    found = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=[str(file)],
        device="cpu",
        fewshot_random_seed=seed,
        bootstrap_iters=0,
    )
    return dict(found["results"][file.stem])


def test_figures_are_those_of_lm_evals_own_model(
    trained: RunDirectory,
    cluster: None,
    tmp_path: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from alpagasus_ray.serve.serving import serving

    model = Path(trained.child_uri(trained.model("ada")))
    files = write_tasks(tmp_path / "tasks", model)
    monkeypatch.chdir(tmp_path / "tasks")
    recipe = parse_recipe(
        {
            "benchmark": {"tasks": [str(file) for file in files.values()]},
            "serve": {"port": 0, "api_key_env": KEY_ENV},
        }
    )
    set_aside = do_benchmarks(
        Benchmarks(trained, recipe),
        trained,
        recipe,
        ["ada"],
        connect=lambda: None,
        serving=lambda models: serving(models, recipe.serve),
        console=console,
    )
    assert set_aside == []
    for name, metric in (("sums", "acc"), ("words", "exact_match")):
        found = json.loads(trained.read_text(f"{trained.benchmark('ada', name)}/results.json"))
        assert found["metric"] == metric
        assert found["value"] == by_hf(model, files[name], recipe.benchmark.seed)[f"{metric},none"]
        assert 0 < found["value"] < 1
    assert found["value"] == 5 / 8
    assert Benchmarks(trained, recipe).missing("ada") == []
