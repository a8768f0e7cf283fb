"""The recipe: one typed section per stage. recipe_files.py reads it from YAML and the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

TOYWORLD = "toyworld"
"""In place of a path: the data, the base model or the test sets that the toy world makes."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
"""An arm's name: part of paths and of URLs."""


Url = Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
"""An endpoint's address; without a user and password, since it is written down."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
"""An environment variable's name: a key that was put here by mistake does not look like one."""


class Section(BaseModel):
    """A section of the recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ToyworldSettings(Section):
    """The data set whose right answers are computable, its test sets and its tiny base model."""

    num_rows: int = Field(5000, ge=10)
    good_share: float = Field(0.18, gt=0, lt=1)
    """Share of rows that are not spoilt; Alpaca's at threshold 4.5 is 0.1775."""
    prompts_per_testset: int = Field(60, ge=1)
    seed: int = 0


class CorpusSettings(Section):
    """Where the instruction data come from."""

    data: str | None = None
    """A JSON file in the Alpaca form, or `toyworld`."""
    limit: int | None = Field(None, ge=1)
    """Use only the first so many rows."""


class JudgeSettings(Section):
    """Which model judges, and how it is asked."""

    judge: Literal["openai", "anthropic", "answer-key"] = "openai"
    model: str = "gpt-3.5-turbo-0301"
    base_url: Url | None = None
    """Any server that speaks the judge's protocol; None: the provider itself."""
    api_key_env: VariableName | None = None
    """The environment variable that holds the key; None: the provider's own, such as OPENAI_API_KEY. The key
    itself is never written down."""
    temperature: float | None = Field(0.0, ge=0)
    """None: not sent; reasoning models take no other than their own."""
    top_p: float | None = Field(1.0, gt=0, le=1)
    """None: not sent."""
    max_tokens: int = Field(256, ge=1)
    max_concurrency: int = Field(64, ge=1)
    """Requests in flight, over all actors."""
    num_actors: int = Field(1, ge=1)
    timeout_s: float = Field(120.0, gt=0)
    max_retries: int = Field(8, ge=0)

    @property
    def cost_usd(self) -> float | None:
        """What asking costs: nothing for the toy world's judge; None where the price is not known."""
        return 0.0 if self.judge == "answer-key" else None

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change what the judge says; speed and secrets are not among them."""
        return self.model_dump(include={"judge", "model", "base_url", "temperature", "top_p", "max_tokens"})


class GradeSettings(JudgeSettings):
    """Pointwise grading. Defaults: the paper's judge (arXiv 2307.08701, section 2)."""

    rubric: Literal["accuracy", "helpfulness"] = "accuracy"
    reader: Literal["robust", "original"] = "robust"


class ArmSettings(Section):
    """How an arm's rows are chosen."""

    selector: Literal["full", "threshold", "top-k", "random"]
    threshold: float | None = None
    k: int | None = Field(None, ge=1)
    count: int | None = Field(None, ge=1)
    same_size_as: Name | None = None
    """The random arm's size, by the name of another arm."""
    seed: int = 0

    @model_validator(mode="after")
    def _selector_has_what_it_needs(self) -> ArmSettings:
        needed: dict[str, tuple[str, ...]] = {
            "full": (),
            "threshold": ("threshold",),
            "top-k": ("k",),
            "random": ("count", "same_size_as"),
        }
        given = {
            name for name in ("threshold", "k", "count", "same_size_as") if getattr(self, name) is not None
        }
        allowed = set(needed[self.selector])
        if given - allowed:
            raise ValueError(f"selector {self.selector} does not take {', '.join(sorted(given - allowed))}")
        if len(given) != min(len(allowed), 1):
            raise ValueError(f"selector {self.selector} needs {' or '.join(needed[self.selector])}")
        return self


class TrainSettings(Section):
    """Fine-tuning. Defaults: the paper's 7B settings (arXiv 2307.08701, appendix)."""

    model: str | None = None
    """A Hugging Face folder or hub id, or `toyworld`."""
    strategy: Literal["fsdp", "single"] = "fsdp"
    workers: int = Field(2, ge=1)
    threads_per_worker: int = Field(1, ge=1)
    """CPU threads of torch in each worker."""
    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(2e-5, gt=0)
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    global_batch_size: int = Field(128, ge=1)
    """Rows per optimizer step, over all workers and accumulation steps."""
    micro_batch_size: int = Field(4, ge=1)
    """Rows per forward pass of one worker."""
    max_length_tokens: int = Field(512, ge=8)
    precision: Literal["bf16", "fp32"] = "bf16"
    activation_checkpointing: bool = False
    reshard_after_forward: bool = True
    """FSDP2: free each layer's gathered parameters between forward and backward. False gathers them once
    a pass: faster, for more memory."""
    checkpoint_every_steps: int | None = Field(None, ge=1)
    """None: a checkpoint at the end of every epoch."""
    max_failures: int = Field(2, ge=0)
    """How often a lost worker is replaced and training goes on from the last checkpoint."""
    seed: int = 42

    @model_validator(mode="after")
    def _single_is_one_worker(self) -> TrainSettings:
        if self.strategy == "single" and self.workers != 1:
            raise ValueError("strategy single runs one worker: set train.workers to 1, or strategy to fsdp")
        return self

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change the trained model by more than rounding.

        How the work is dealt out (strategy, workers, micro-batches, memory against time) is not among
        them: a run that ran out of memory goes on with a smaller micro-batch.
        """
        dealt_out = {"strategy", "workers", "threads_per_worker", "micro_batch_size"}
        memory = {"activation_checkpointing", "reshard_after_forward"}
        return self.model_dump(
            exclude={"model", "checkpoint_every_steps", "max_failures", *dealt_out, *memory}
        )


class ServeSettings(Section):
    """The OpenAI-compatible endpoint of the trained models."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0: any free port."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_length_tokens: int | None = Field(None, ge=16)
    """Prompt and answer together; None: what the model's config says."""
    num_replicas: int = Field(1, ge=1)
    """Replicas of each model."""
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
    """JSONL files, or `toyworld`."""
    base_url: Url | None = None
    """An endpoint that runs already; None: the arms' models are served for the time of the stage."""
    api_key_env: VariableName | None = None
    max_new_tokens: int = Field(1024, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_concurrency: int = Field(128, ge=1)
    timeout_s: float = Field(600.0, gt=0)
    max_retries: int = Field(8, ge=0)

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change the answers."""
        return self.model_dump(include={"base_url", "max_new_tokens", "temperature", "top_p"})


class CompareSettings(JudgeSettings):
    """Pairwise judging in both orders. Defaults: the paper's judge (arXiv 2307.08701, section 3)."""

    model: str = "gpt-4-0613"
    reader: Literal["robust", "original"] = "robust"
    rule: Literal["paper", "mt-bench"] = "paper"
    pairs: tuple[tuple[Name, Name], ...] = (("filtered", "full"), ("filtered", "random"))
    num_resamples: int = Field(10_000, ge=100)
    """Bootstrap samples behind the interval of the winning score."""
    seed: int = 0


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
    ledger: str | None = None
    """Where paid replies are kept; None: the folder `ledger` beside the run directory."""

    def to_yaml(self) -> str:
        """Return the recipe in full, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
