"""What a recipe would cost, stage by stage, and how that is told; asks nothing, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.estimating.comparing import comparing
from alpagasus_ray.estimating.forecasts import Forecast
from alpagasus_ray.estimating.grading import RowTally, grading
from alpagasus_ray.recipe import Recipe


@dataclass(frozen=True)
class Estimate:
    """The rows, and what each stage would ask of them."""

    rows: int
    set_aside: int
    duplicates: int
    """Rows whose content stands earlier in the file: they are not asked again."""
    stages: tuple[Forecast, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        rows = {"rows": self.rows, "set_aside": self.set_aside, "duplicates": self.duplicates}
        return {**rows, **{one.stage: one.to_dict() for one in self.stages}}

    def to_text(self) -> str:
        """Return the estimate as a table for a terminal."""
        rows = (
            f"{self.rows:,} ({self.set_aside:,} set aside, {self.duplicates:,} twice in the file: not asked)"
        )
        lines = [("rows", rows)]
        for one in self.stages:
            lines += [("", ""), (f"{one.stage} by", f"{one.judge} {one.model}"), *one.lines()]
        return "\n".join(f"{name:<19}{value}".rstrip() for name, value in lines)


def estimate(run: RunDirectory, recipe: Recipe) -> Estimate:
    """Return what `grade` and, where the recipe names test sets, `compare` would ask and cost.

    Raises UserError for data, test sets or a tokenizer that cannot be read.
    """
    tally = RowTally()
    stages = [grading(run, recipe, tally)]
    if tally.rows:
        stages += comparing(recipe, tally.output_tokens)
    return Estimate(tally.rows, tally.set_aside, tally.duplicates, tuple(stages))
