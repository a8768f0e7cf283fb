"""The recipe: one typed section per stage. recipe_files.py reads it from YAML and the command line."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import Field, model_validator

from alpagasus_ray.recipe_benchmark_tasks import BenchmarkSettings
from alpagasus_ray.recipe_benchmarks import MtBenchSettings
from alpagasus_ray.recipe_comparing import CompareSettings
from alpagasus_ray.recipe_judging import (
    AgreementSettings,
    GradeSettings,
    GuardSettings,
    JudgeSettings,
    LabelColumns,
    PriceSettings,
)
from alpagasus_ray.recipe_section import Address, Name, Section, Url, VariableName
from alpagasus_ray.recipe_serving import GenerateSettings, ServeSettings
from alpagasus_ray.recipe_training import LoraSettings, TrainSettings

__all__ = [
    "Address",
    "AgreementSettings",
    "BenchmarkSettings",
    "CompareSettings",
    "GenerateSettings",
    "GradeSettings",
    "GuardSettings",
    "JudgeSettings",
    "LabelColumns",
    "LoraSettings",
    "MtBenchSettings",
    "Name",
    "PriceSettings",
    "Section",
    "ServeSettings",
    "TrainSettings",
    "Url",
    "VariableName",
]
TOYWORLD = "toyworld"
"""In place of a path: the data, the base model or the test sets that the toy world makes."""


class ToyworldSettings(Section):
    """The data set whose right answers are computable, its test sets and its tiny base model."""

    num_rows: int = Field(5000, ge=10)
    good_share: float = Field(0.18, gt=0, lt=1)
    """Share of rows that are not spoilt; Alpaca's at threshold 4.5 is 0.1775."""
    prompts_per_testset: int = Field(60, ge=1)
    seed: int = 0


class CorpusSettings(Section):
    """Where the instruction data come from."""

    data: Address | None = None
    """A local file, a URI that pyarrow opens (s3://, gs://), a data set of the Hugging Face hub such as
    `tatsu-lab/alpaca` (or hf://datasets/OWNER/NAME/FILE), or `toyworld`. JSON, JSONL, CSV (all three also as
    .gz) and Parquet are read."""
    limit: int | None = Field(None, ge=1)
    """Use only the first so many rows."""
    format: Literal["auto", "alpaca", "dolly", "chat", "csv", "parquet"] = "auto"
    """What the rows look like (alpaca, dolly, chat) or what the file is written in (csv, parquet). What this
    does not say is seen from the file's ending and its first rows."""
    columns: dict[Literal["instruction", "input", "output", "category"], str] = Field(default_factory=dict)
    """The source's names for these columns, where they have others."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> CorpusSettings:
        if self.format == "chat" and self.columns:
            raise ValueError("format chat has conversations and no columns to name: leave columns out")
        return self


class ArmSettings(Section):
    """How an arm's rows are chosen."""

    selector: Literal["full", "threshold", "keep-share", "top-k", "random"]
    threshold: float | None = None
    keep_share: float | None = Field(None, gt=0, le=1)
    """Share of the scored rows: the nearest threshold is taken. AlpaGasus kept 9,229 of 52,002: 0.1775."""
    k: int | None = Field(None, ge=1)
    count: int | None = Field(None, ge=1)
    same_size_as: Name | None = None
    """The random arm's size, by the name of another arm."""
    within: Name | None = None
    """The random arm's source, by the name of another arm; None: all rows."""
    rubric: Name | None = None
    """Whose scores count; None: those of the first rubric that the recipe grades by."""
    seed: int = 0

    @model_validator(mode="after")
    def _selector_has_what_it_needs(self) -> ArmSettings:
        needed: dict[str, tuple[str, ...]] = {
            "full": (),
            "threshold": ("threshold",),
            "keep-share": ("keep_share",),
            "top-k": ("k",),
            "random": ("count", "same_size_as"),
        }
        choices = {name for names in needed.values() for name in names}
        given = {name for name in choices if getattr(self, name) is not None}
        allowed = set(needed[self.selector])
        if given - allowed:
            raise ValueError(f"selector {self.selector} does not take {', '.join(sorted(given - allowed))}")
        if len(given) != min(len(allowed), 1):
            raise ValueError(f"selector {self.selector} needs {' or '.join(needed[self.selector])}")
        if self.within is not None and self.selector != "random":
            raise ValueError(f"selector {self.selector} does not take within: only random draws from an arm")
        if self.rubric is not None and not self.by_score:
            raise ValueError(f"selector {self.selector} does not take rubric: it looks at no scores")
        return self

    @property
    def made_from(self) -> tuple[str, ...]:
        """Names of the arms that have to be there first."""
        return tuple(arm for arm in (self.same_size_as, self.within) if arm is not None)

    @property
    def by_score(self) -> bool:
        """Whether the rows are chosen by their scores."""
        return self.selector in ("threshold", "keep-share", "top-k")


class Recipe(Section):
    """A whole experiment."""

    toyworld: ToyworldSettings | None = None
    corpus: CorpusSettings = CorpusSettings()
    grade: GradeSettings = GradeSettings()
    arms: dict[Name, ArmSettings] = Field(default_factory=dict)
    train: TrainSettings = TrainSettings()
    serve: ServeSettings = ServeSettings()
    generate: GenerateSettings = GenerateSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    compare: CompareSettings = CompareSettings()
    agreement: AgreementSettings = AgreementSettings()
    mt_bench: MtBenchSettings | None = None
    """None: `run` leaves it out."""
    ledger: Address | None = None
    """Where paid replies are kept; None: the folder `ledger` beside the run directory."""
    wait_for_nodes_s: float = Field(45.0, ge=0)
    """How long a stage waits for CPUs or GPUs that the cluster has not got. Where nodes come when they are
    asked for, that takes minutes."""
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """Prices by model name, before the list prices. Model names hold dots, at which --set splits keys: write
    --set 'prices={gpt-4.1: {input_usd_per_million_tokens: 2, output_usd_per_million_tokens: 8}}'."""

    @property
    def wants_grades(self) -> bool:
        """Whether a run has to grade: where no arm goes by scores, they are not worth their price.

        A recipe without arms is one of single commands, of which `grade` may be the first; and reviews that
        are imported cost nothing.
        """
        by_score = any(arm.by_score for arm in self.arms.values())
        return by_score or not self.arms or self.grade.import_reviews is not None

    def to_yaml(self) -> str:
        """Return the recipe in full, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
