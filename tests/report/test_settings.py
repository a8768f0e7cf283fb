"""The settings that a reader of the report is told: those of the artifacts."""

from __future__ import annotations

from typing import Any

from alpagasus_ray.manifests import Manifest
from alpagasus_ray.report.settings import rules_used, settings_shown


def made_with(details: dict[str, Any] | None = None, **settings: Any) -> Manifest:
    return Manifest("stage", "0" * 64, settings, {}, "1" * 64, details=details or {})


def test_each_step_has_its_settings() -> None:
    manifests = {
        "triplets": made_with(path="x"),
        "reviews/accuracy--j": made_with(rubric="accuracy", temperature=0.0),
        "models/full": made_with({"workers": 2, "final_loss": 1.0}, epochs=3, base_model="a" * 64),
        "answers/full": made_with(testsets={"koala": "b" * 64, "vicuna": "c" * 64}, serve={"dtype": "auto"}),
    }
    assert settings_shown(manifests) == {
        "Grading": {"rubric": "accuracy", "temperature": "0.0"},
        "Training": {"workers": "2", "epochs": "3"},
        "Answers": {"testsets": "koala, vicuna", "serve": "dtype auto"},
    }


def test_where_artifacts_differ_every_value_is_shown() -> None:
    manifests = {"models/full": made_with(epochs=3), "models/filtered": made_with(epochs=5)}
    assert settings_shown(manifests) == {"Training": {"epochs": "3 / 5"}}


def test_what_has_no_value_is_left_out() -> None:
    assert settings_shown({"reviews/x": made_with(base_url=None, engine={})}) == {"Grading": {}}


def test_whole_prompts_are_left_out() -> None:
    rubric = {"rubric": "mine", "system": "x" * 200, "template": "{output}\nRate it.", "pattern": ""}
    assert settings_shown({"reviews/x": made_with(**rubric)}) == {"Grading": {"rubric": "mine"}}


def test_passwords_in_urls_stay_out_of_the_report() -> None:
    # A recipe refuses such an address; one that was stored by hand must not be shown either.
    shown = settings_shown({"reviews/x": made_with(base_url="https://user:secret@judge.example/v1")})
    assert shown["Grading"]["base_url"] == "https://judge.example/v1"


def test_the_rules_are_those_of_the_verdicts() -> None:
    manifests = {"reviews/x": made_with(), "verdicts/a": made_with(rule="paper")}
    assert rules_used(manifests) == ["paper"]
    assert rules_used({**manifests, "verdicts/b": made_with(rule="mt-bench")}) == ["mt-bench", "paper"]
