"""A review: what the judge said of one triplet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alpagasus_ray.llm.asking import SET_ASIDE


@dataclass(frozen=True, slots=True)
class Review:
    """A score, or the reason why there is none; never a number that stands for a failure."""

    triplet_id: str
    rubric: str
    judge_model: str
    score: float | None
    failure: str | None
    text: str | None
    """The raw reply, kept so that it can be read again for nothing."""
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of_judged_row(cls, row: Mapping[str, Any], rubric: str, judge_model: str) -> Review:
        """Return the review in a row that came out of the judge (see judging.JUDGED)."""
        return cls(
            triplet_id=row["id"],
            rubric=rubric,
            judge_model=judge_model,
            score=row["scores"][0] if row["scores"] else None,
            failure=row["failure"],
            text=row["text"],
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
        )

    @classmethod
    def of_rejected_row(cls, row: Mapping[str, Any], rubric: str, judge_model: str) -> Review:
        """Return the review of a row that was set aside before any judge was asked: the reason why."""
        return cls(row["id"], rubric, judge_model, None, f"{SET_ASIDE}: {row['reason']}", None, 0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the row of the REVIEWS schema."""
        return asdict(self)
