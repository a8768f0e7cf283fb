"""The figures of cluster/README.md, worked out anew by the code that they are said to come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.estimating.estimate import estimate
from alpagasus_ray.estimating.forecasts import Forecast, Workload, forecast
from alpagasus_ray.estimating.grading import GRADING_REPLY_TOKENS
from alpagasus_ray.llm.prices import PRICES_AS_OF
from alpagasus_ray.recipe import GradeSettings, Recipe
from alpagasus_ray.recipe_files import load_recipe, parse_recipe
from alpagasus_ray.train.flops import token_flops
from alpagasus_ray.train.gpus import GPUS
from alpagasus_ray.train.model_shape import ModelShape
from alpagasus_ray.train.plan import ASSUMED_MFU
from alpagasus_ray.train.workload import count_examples, workload_of

README = Path(__file__).parents[2] / "cluster" / "README.md"
PROMPT_TOKENS, PLANTED = 198, 40
SIZES = {52_000: (5_000, 256), 10_000_000: (30_000, 2048)}
"""Requests a minute and in flight, by rows."""
LLAMA_7B = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)
ARMS = 1 + 2 * 0.1775
"""All rows, and two arms of the paper's share of them."""
GRADING_USD, GPUS_USD, GPUS_A_NODE = 0.4032, 10.49, 4


def row(name: str) -> list[str]:
    """Return the cells of a line of the table: for 52,000 rows and for 10 million."""
    (line,) = [line for line in README.read_text().splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[2:4]]


def grading(rows: int) -> Forecast:
    requests_per_minute, in_flight = SIZES[rows]
    calls = rows + PLANTED
    settings = GradeSettings(
        judge="openai",
        model="gpt-4o-mini",
        requests_per_minute=requests_per_minute,
        max_concurrency=in_flight,
    )
    tokens = calls * PROMPT_TOKENS
    work = Workload(calls, 0, tokens, tokens, "", GRADING_REPLY_TOKENS, "")
    return forecast("grade", settings, work, {})


def dollars(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def test_what_the_judge_costs() -> None:
    assert PRICES_AS_OF in README.read_text()
    for cells, rows in zip(zip(*map(row, (*GRADE, "grade: nodes")), strict=True), SIZES, strict=True):
        made = grading(rows)
        assert made.cost_usd is not None and made.max_cost_usd is not None
        assert made.duration_by == f"{SIZES[rows][0]:,} requests a minute", "the limit, not what is in flight"
        hours = made.duration_s / 3600
        assert cells == (
            f"{made.calls:,}",
            f"{dollars(made.cost_usd)}, {dollars(made.max_cost_usd)} at most",
            f"{hours:.2g} ({made.duration_by})",
            f"1 x m7i.2xlarge, {dollars(hours * GRADING_USD)}",
        )


GRADE = ("grade: calls", "grade: judge", "grade: hours")


def test_a_call_has_as_many_tokens_as_alpacas(shared_data: Path, tmp_path: Path) -> None:
    values = {"corpus": {"data": str(shared_data / "random_9k.json")}, "grade": {"judge": "openai"}}
    (made,) = estimate(RunDirectory(str(tmp_path)), parse_recipe(values)).stages
    assert round(made.prompt_tokens / made.calls) == PROMPT_TOKENS
    assert made.calls == 9_225 + PLANTED


class FourCharacters:
    """A tokenizer with four characters to a token."""

    eos_token_id, bos_token_id = 1, None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [0] * round(len(text) / 4)}


def test_what_training_takes(shared_data: Path) -> None:
    settings = load_recipe("alpagasus-7b").train
    rows = json.loads((shared_data / "random_9k.json").read_text())
    work = workload_of(count_examples(rows, FourCharacters(), settings.max_length_tokens), settings)
    flops = token_flops(LLAMA_7B, settings, recomputed=True).of(work.padded_tokens, work.attended_tokens)
    per_row_s = settings.epochs * flops / len(rows) / (ASSUMED_MFU * GPUS["l40s"].peak_flops(settings))
    for hours, nodes, count in zip(row("train: GPU hours"), row("train: nodes"), SIZES, strict=True):
        gpu_hours = ARMS * count * per_row_s / 3600
        node_hours = gpu_hours / GPUS_A_NODE
        assert float(hours) == pytest.approx(gpu_hours, rel=0.01)
        assert nodes.startswith(f"{node_hours:.2f} h" if node_hours < 1 else f"{node_hours:.0f} h")
        assert nodes.endswith(dollars(node_hours * GPUS_USD))


def test_what_comparing_costs(shared_data: Path, tmp_path: Path) -> None:
    testsets = {"testsets": ["koala", "sinstruct", "vicuna", "wizardlm"]}
    recipe: Recipe = parse_recipe(
        {
            "corpus": {"data": str(shared_data / "random_9k.json")},
            "generate": {**testsets, "testsets_folder": str(shared_data / "testsets")},
            "compare": {"judge": "openai", "model": "gpt-4o"},
        }
    )
    _, made = estimate(RunDirectory(str(tmp_path)), recipe).stages
    assert made.cost_usd is not None and made.max_cost_usd is not None
    assert row("compare: judge")[0] == f"{dollars(made.cost_usd)}, {dollars(made.max_cost_usd)} at most"
