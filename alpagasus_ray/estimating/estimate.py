"""What a recipe would cost, stage by stage and in all, and how that is told; asks nothing, writes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.estimating.comparing import comparing
from alpagasus_ray.estimating.forecasts import Forecast, cost_in_words
from alpagasus_ray.estimating.grading import RowTally, grading
from alpagasus_ray.estimating.mt_bench import mt_bench
from alpagasus_ray.recipe import Recipe


@dataclass(frozen=True)
class Total:
    """What the stages cost together whose price is known."""

    cost_usd: float
    max_cost_usd: float
    without: tuple[str, ...]
    """The stages whose price is not known: what they cost comes on top."""

    def to_text(self) -> str:
        """Return the dollars in words."""
        left_out = ", ".join(self.without)
        more = f" (without {left_out}: price not known)" if left_out else ""
        return cost_in_words(self.cost_usd, self.max_cost_usd) + more


@dataclass(frozen=True)
class Estimate:
    """The rows, and what each stage would ask of them."""

    rows: int
    set_aside: int
    duplicates: int
    """Rows whose content stands earlier in the file: they are not asked again."""
    stages: tuple[Forecast, ...]

    @property
    def total(self) -> Total | None:
        """The dollars in all, in US dollars; None where less than two stages have a price."""
        priced = [(one.cost_usd, one.max_cost_usd) for one in self.stages]
        known = [(cost, most) for cost, most in priced if cost is not None and most is not None]
        if len(known) < 2:
            return None
        without = tuple(one.stage for one in self.stages if one.cost_usd is None)
        return Total(sum(cost for cost, _ in known), sum(most for _, most in known), without)

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values: the rows, each stage by its name, the total if any."""
        rows = {"rows": self.rows, "set_aside": self.set_aside, "duplicates": self.duplicates}
        total = {} if self.total is None else {"total": asdict(self.total)}
        return {**rows, **{one.stage: one.to_dict() for one in self.stages}, **total}

    def to_text(self) -> str:
        """Return the estimate as a table for a terminal."""
        rows = (
            f"{self.rows:,} ({self.set_aside:,} set aside, {self.duplicates:,} twice in the file: not asked)"
        )
        lines = [("rows", rows)]
        for one in self.stages:
            lines += [("", ""), (f"{one.stage} by", f"{one.judge} {one.model}"), *one.lines()]
        if self.total is not None:
            lines += [("", ""), ("total", self.total.to_text())]
        return "\n".join(f"{name:<19}{value}".rstrip() for name, value in lines)


def estimate(run: RunDirectory, recipe: Recipe) -> Estimate:
    """Return what the recipe's judges would be asked and cost.

    That is `grade`, whether or not an arm goes by scores (where none does, `run` leaves it out); `compare`
    where the recipe names test sets, and the stronger judge of its flips; MT-Bench where it has such a
    section. Raises UserError for what could not be asked: data, test sets, questions or a tokenizer that
    cannot be read.
    """
    tally = RowTally()
    stages = [grading(run, recipe, tally)]
    if tally.rows:
        stages += comparing(recipe, tally.output_tokens)
        if benched := mt_bench(run, recipe, tally.output_tokens):
            stages.append(benched)
    return Estimate(tally.rows, tally.set_aside, tally.duplicates, tuple(stages))
