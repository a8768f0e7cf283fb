"""Which stages a whole run has; what they do is tested elsewhere."""

from __future__ import annotations

from io import StringIO

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.pipeline import Pipeline
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe


@pytest.mark.parametrize(("arms", "graded"), [("full", False), ("best", True)])
def test_a_whole_run_grades_only_for_arms_that_go_by_scores(
    arms: str, graded: bool, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    selectors = {"full": {"selector": "full"}, "best": {"selector": "top-k", "k": 1}}
    recipe = Recipe.model_validate({"arms": {arms: selectors[arms]}})
    said = StringIO()
    pipeline = Pipeline(run, recipe, RaySession(), Console(StringIO(), said))
    done: list[str] = []
    for stage in ("check", "corpus", "grade", "select", "train", "compare_all", "report"):
        monkeypatch.setattr(pipeline, stage, lambda *_, name=stage: done.append(name))
    monkeypatch.setattr(pipeline.models, "ask", lambda _: done.append("ask"))
    pipeline.run_all()
    assert ("grade" in done) == graded and done[-1] == "report"
    assert ("grade: left out" in said.getvalue()) != graded
