"""The recipe: one typed section per stage. recipe_files.py reads it from YAML and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from alpagasus_ray.recipe_judging import (
    CompareSettings,
    GradeSettings,
    GuardSettings,
    JudgeSettings,
    PriceSettings,
)
from alpagasus_ray.recipe_section import Address, Name, Section, Url, VariableName
from alpagasus_ray.recipe_training import LoraSettings, TrainSettings

__all__ = [
    "Address",
    "CompareSettings",
    "GradeSettings",
    "GuardSettings",
    "JudgeSettings",
    "LoraSettings",
    "Name",
    "PriceSettings",
    "Section",
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
        if self.rubric is not None and not self.by_score:
            raise ValueError(f"selector {self.selector} does not take rubric: it looks at no scores")
        return self

    @property
    def by_score(self) -> bool:
        """Whether the rows are chosen by their scores."""
        return self.selector in ("threshold", "keep-share", "top-k")


class ServeSettings(Section):
    """The OpenAI-compatible endpoint of the trained models."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0: any free port."""
    api_key_env: VariableName | None = None
    """The environment variable that holds the key which requests have to bring. None: none is asked for, and
    the host has to be this machine's own loopback."""
    open_to_all: bool = False
    """Ask for no key where others can reach the endpoint, too."""
    max_body_mib: float = Field(4.0, gt=0)
    max_requests_in_flight: int = Field(1024, ge=1)
    """Of the endpoint as a whole; more are answered 429 with Retry-After."""
    max_answer_tokens: int | None = Field(None, ge=1)
    """The longest answer that a request may ask for. None: as long as the model's context."""
    base_model: str | None = None
    """Where the base model of the served adapters lies. None: where it lay when they were trained."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_length_tokens: int | None = Field(None, ge=16)
    """Prompt and answer together; None: what the model's config says."""
    num_replicas: int = Field(1, ge=1)
    """Replicas of each model."""
    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    """What the models run on. auto: GPUs, where the cluster has any now. A cluster that starts its GPU nodes
    when they are asked for has to be told."""
    cpus_per_replica: float = Field(0.3, gt=0)
    kv_cache_gib: int = Field(1, ge=1)
    """Memory of each CPU replica's key-value cache."""
    startup_timeout_s: float = Field(600.0, gt=0)
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, as they stand."""

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change what the served models answer."""
        return self.model_dump(include={"dtype", "max_model_length_tokens", "engine"})


class GenerateSettings(Section):
    """Answering the test sets. Defaults: the paper's (greedy, 1,024 new tokens)."""

    testsets: tuple[str, ...] = ()
    """JSONL files, the paper's test sets by name (koala, sinstruct, vicuna, wizardlm), or `toyworld`. A name
    is never taken for a file: a file called koala is ./koala."""
    testsets_folder: str | None = None
    """Where the paper's test sets are looked for, before the cache that `alpagasus testsets fetch` fills."""
    prompt_columns: dict[Literal["id", "instruction", "input", "category"], str] = Field(default_factory=dict)
    """The files' names for these columns, where they have others. The paper's sets by name and the toy world
    need none, and pay no heed to these."""
    base_url: Url | None = None
    """An endpoint that runs already; None: the arms' models are served for the time of the stage."""
    api_key_env: VariableName | None = None
    max_new_tokens: int = Field(1024, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_concurrency: int = Field(128, ge=1)
    timeout_s: float = Field(600.0, gt=0)
    max_retries: int = Field(12, ge=0)
    """Of one request, after what may pass; a 429 costs none."""

    @field_validator("testsets_folder")
    @classmethod
    def _folder_by_its_whole_path(cls, value: str | None) -> str | None:
        """The recipe is stored in the run, and must hold wherever the next command is typed."""
        return None if value is None else str(Path(value).expanduser().absolute())

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change the answers."""
        return self.model_dump(include={"base_url", "max_new_tokens", "temperature", "top_p"})


class Recipe(Section):
    """A whole experiment."""

    toyworld: ToyworldSettings | None = None
    corpus: CorpusSettings = CorpusSettings()
    grade: GradeSettings = GradeSettings()
    arms: dict[Name, ArmSettings] = Field(default_factory=dict)
    train: TrainSettings = TrainSettings()
    serve: ServeSettings = ServeSettings()
    generate: GenerateSettings = GenerateSettings()
    compare: CompareSettings = CompareSettings()
    ledger: Address | None = None
    """Where paid replies are kept; None: the folder `ledger` beside the run directory."""
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """Prices by model name, before the list prices. Model names hold dots, at which --set splits keys: write
    --set 'prices={gpt-4.1: {input_usd_per_million_tokens: 2, output_usd_per_million_tokens: 8}}'."""

    def to_yaml(self) -> str:
        """Return the recipe in full, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
