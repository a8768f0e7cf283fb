"""Requests: what the ledger knows a reply by does not change."""

from __future__ import annotations

import pytest

from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.recipe import GradeSettings

ROW = {"id": "1", "instruction": "Name a fruit.", "input": "", "output": "An apple."}


def test_a_request_holds_what_is_sent() -> None:
    settings = GradeSettings(model="some-judge", temperature=None, max_tokens=300, timeout_s=7)
    request = request_of(ROW, RUBRICS["helpfulness"], settings)
    assert request.messages == RUBRICS["helpfulness"].render(ROW)
    assert (request.model, request.raw_prompt) == ("some-judge", False)
    assert (request.sampling.max_tokens, request.sampling.temperature, request.sampling.top_p) == (
        300,
        None,
        1.0,
    )


def test_replies_that_were_paid_for_are_found_by_later_versions() -> None:
    """The key as the first version made it: with another one every ledger would be worth nothing."""
    key = request_of(ROW, RUBRICS["accuracy"], GradeSettings(model="gpt-4o-mini")).key
    assert key == "c2d8c587c1e88189a77ed1ae48f30716bc9809ba065916b1884237220add431f"


@pytest.mark.parametrize("speed", [{"max_concurrency": 7}, {"requests_per_minute": 5}, {"max_cost_usd": 1}])
def test_how_fast_one_asks_does_not_make_another_request(speed: dict[str, int]) -> None:
    plain, other = GradeSettings(), GradeSettings.model_validate(speed)
    assert request_of(ROW, RUBRICS["accuracy"], plain) == request_of(ROW, RUBRICS["accuracy"], other)
    assert plain.shapes_result() == other.shapes_result()


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(KeyError, match="output"):
        request_of({"instruction": "a", "input": ""}, RUBRICS["accuracy"], GradeSettings())
