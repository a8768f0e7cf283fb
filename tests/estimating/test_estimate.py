"""The whole estimate: its stages, the dollars in all, and how both are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.estimating.estimate import Estimate, estimate
from tests.estimating.recipes import rows, settings_with, write_prompts
from tests.mt_bench.files import write_questions, write_references
from tests.shell import Shell

ONE_DOLLAR = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1}


def whole_recipe(folder: Path, **prices: Any) -> dict[str, Any]:
    """Return a recipe that grades 100 rows and compares two arms on 50 prompts and 8 MT-Bench questions."""
    (folder / "data.json").write_text(json.dumps(rows(100)))
    return {
        "corpus": {"data": str(folder / "data.json")},
        "grade": {"model": "weak", "guard": {"action": "off"}},
        "arms": {"full": {"selector": "full"}, "filtered": {"selector": "threshold", "threshold": 4.5}},
        "generate": {"testsets": [write_prompts(folder, 50)]},
        "compare": {"model": "weak", "pairs": [["filtered", "full"]], "escalate": "strong"},
        "mt_bench": {
            "model": "expert",
            "questions": write_questions(folder),
            "references": write_references(folder),
            "mode": ["single", "pairwise"],
        },
        "prices": prices,
    }


def test_the_table_and_the_json_say_the_same(run: RunDirectory, data: Path) -> None:
    made = estimate(run, settings_with(data))
    values = json.loads(json.dumps(made.to_dict()))
    assert (values["rows"], values["grade"]["calls_to_pay_for"]) == (102, 100)
    assert "rows               102 (3 set aside, 2 twice in the file: not asked)" in made.to_text()
    assert "to pay for         100" in made.to_text()


def test_one_stage_has_no_total_beside_it(run: RunDirectory, data: Path) -> None:
    made = estimate(run, settings_with(data))
    assert made.total is None
    assert "total" not in made.to_dict()
    assert "total" not in made.to_text()


def test_the_command_tells_every_stage_that_pays_a_judge_and_the_sum(shell: Shell, tmp_path: Path) -> None:
    prices = {"weak": ONE_DOLLAR, "strong": ONE_DOLLAR, "expert": ONE_DOLLAR}
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole_recipe(tmp_path, **prices)))
    done = shell.run(tmp_path, "estimate", "--recipe", "whole.yaml", "--json")
    assert (done.code, done.error, done.loaded) == (0, "", [])
    values = json.loads(done.out)
    stages = ["grade", "compare", "escalate", "mt_bench"]
    assert list(values) == ["rows", "set_aside", "duplicates", *stages, "total"]
    assert [values[one]["calls"] for one in stages] == [100, 100, 40, 32 + 32]
    assert [values[one]["max_calls"] for one in stages] == [100, 100, 100, 64]
    tokens = sum(values[one]["prompt_tokens"] + values[one]["completion_tokens"] for one in stages)
    assert values["total"]["cost_usd"] == pytest.approx(tokens / 1e6, rel=1e-3)
    most = sum(values[one]["max_cost_usd"] for one in stages)
    assert values["total"]["max_cost_usd"] == pytest.approx(most)
    assert values["total"]["without"] == []

    table = shell.run(tmp_path, "estimate", "--recipe", "whole.yaml").out
    assert "escalate by        openai strong\n" in table
    assert "calls              40 (40 % of 50 verdicts assumed to flip), 100 at most\n" in table
    assert "mt_bench by        openai expert\ncalls              64 (32 single, 32 in pairs)\n" in table
    total = values["total"]
    assert table.endswith(
        f"\n\ntotal              ${total['cost_usd']:.2f}, ${total['max_cost_usd']:.2f} at most\n"
    )


def test_a_total_names_what_it_lacks(run: RunDirectory, tmp_path: Path) -> None:
    made = _made(run, tmp_path, weak=ONE_DOLLAR, expert=ONE_DOLLAR)
    assert made.total is not None
    assert made.total.without == ("escalate",)
    priced = [one.cost_usd for one in made.stages if one.cost_usd is not None]
    assert made.total.cost_usd == pytest.approx(sum(priced))
    assert made.to_text().endswith(" at most (without escalate: price not known)")
    assert "the price of strong is not known" in made.to_text()


def test_there_is_no_total_of_one_price(run: RunDirectory, tmp_path: Path) -> None:
    assert _made(run, tmp_path, expert=ONE_DOLLAR).total is None


def _made(run: RunDirectory, folder: Path, **prices: Any) -> Estimate:
    values = whole_recipe(folder, **prices)
    return estimate(
        run, settings_with(folder / "data.json", **{k: v for k, v in values.items() if k != "corpus"})
    )
