"""What is sent to a judge for one row: the request by which the ledger knows its reply."""

from __future__ import annotations

from collections.abc import Mapping

from alpagasus_ray.judge.rubrics import Rubric
from alpagasus_ray.llm.chat import Request, Sampling
from alpagasus_ray.recipe import JudgeSettings


def request_of(row: Mapping[str, str], rubric: Rubric, settings: JudgeSettings) -> Request:
    """Return the request that asks a judge about a row; raises KeyError for a field that the row lacks."""
    sampling = Sampling(settings.max_tokens, settings.temperature, settings.top_p)
    return Request(rubric.render(row), settings.model, sampling)
