"""The recipe's sections on serving the trained models and on their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from alpagasus_ray.recipe_section import Section, Url, VariableName

DEFAULT_PORT = 8000
COUNTED = ("tensor_parallel_size", "pipeline_parallel_size")
"""Of vLLM's engine arguments."""
WHAT_FITS = -1
"""vLLM's max_model_len for as many tokens as there is memory for, up to the model's own length."""


class ServeSettings(Section):
    """The OpenAI-compatible endpoint of the trained models."""

    host: str = "127.0.0.1"
    port: int = Field(DEFAULT_PORT, ge=0, le=65535)
    """0: any free port. The generate stage's own endpoint takes any, too, where this is left as it is."""
    api_key_env: VariableName | None = None
    """The environment variable that holds the key which requests have to bring. None: none is asked for, and
    the host has to be this machine's own loopback."""
    open_to_all: bool = False
    """Ask for no key where others can reach the endpoint, too."""
    max_body_mib: float = Field(4.0, gt=0)
    max_requests_in_flight: int = Field(1024, ge=1)
    """Of the endpoint as a whole; more are answered 429 with Retry-After."""
    max_answer_tokens: int | None = Field(None, ge=1)
    """How many tokens a request may ask for, all of its answers together (prompts times n). None: as many as
    one likes, each answer as long as the model's context."""
    base_model: str | None = None
    """Where the base model of the served adapters lies. None: where it lay when they were trained."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_length_tokens: int | None = Field(None, ge=16)
    """Prompt and answer together; None: what the model's config says."""
    num_replicas: int = Field(1, ge=0)
    """Replicas of each model: so many, or where there is `max_replicas`, at least so many."""
    max_replicas: int | None = Field(None, ge=1)
    """Serve adds replicas of a model up to this number while requests wait, and takes idle ones away again.
    None: the number stays."""
    requests_per_replica: int = Field(64, ge=1)
    """Of a model whose replicas come and go: how many under way are enough for one."""
    idle_s: float = Field(600.0, ge=0)
    """How long less work than its replicas are for has to last before one of them is taken away."""
    replica_wait_s: float = Field(20.0, gt=0)
    """How long a request waits where a model's replicas are all lost and start again, before it is answered
    503 with Retry-After. With num_replicas 0 it waits until one has started."""
    prefix_aware: bool = False
    """Send prompts that begin alike to the same replica, whose cache has their beginning."""
    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    """What the models run on. auto: GPUs, where the cluster has any now. A cluster that starts its GPU nodes
    when they are asked for has to be told."""
    cpus_per_replica: float = Field(0.3, gt=0)
    kv_cache_gib: int = Field(1, ge=1)
    """Memory of each CPU replica's key-value cache."""
    startup_timeout_s: float = Field(600.0, gt=0)
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further vLLM engine arguments, as they stand."""

    @model_validator(mode="after")
    def _replicas_make_sense(self) -> ServeSettings:
        if self.max_replicas is None and self.num_replicas == 0:
            raise ValueError(
                "num_replicas 0 serves nothing: with max_replicas a model starts when it is asked"
            )
        if self.max_replicas is not None and self.max_replicas < self.num_replicas:
            raise ValueError("max_replicas is less than num_replicas")
        return self

    @field_validator("engine")
    @classmethod
    def _can_be_counted_with(cls, value: dict[str, Any]) -> dict[str, Any]:
        """What is counted with before vLLM sees it."""
        for name in COUNTED:
            _check_count(name, value.get(name, 1))
        for name in ("max_num_batched_tokens", "max_model_len"):
            if value.get(name) is not None and (name, value[name]) != ("max_model_len", WHAT_FITS):
                _check_count(name, value[name])
        own = value.get("override_generation_config") or {}
        if not isinstance(own, dict):
            raise ValueError("override_generation_config is a mapping, such as {top_k: 20}")
        _check_count("override_generation_config.max_new_tokens", own.get("max_new_tokens", 1))
        return value

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change what the served models answer."""
        shaping = {"dtype", "max_model_length_tokens", "engine"}
        # Only where it is named: answers of before the setting counted stay what they were.
        shaping |= {"base_model"} if self.base_model is not None else set()
        return self.model_dump(include=shaping)

    def of_a_stage(self, patience_s: float) -> ServeSettings:
        """Return the settings for a stage's own endpoint, which nobody else asks.

        Any free port where the recipe names none of its own, and the stage's patience with a lost replica.
        """
        port = 0 if self.port == DEFAULT_PORT else self.port
        return self.model_copy(update={"port": port, "replica_wait_s": max(patience_s, self.replica_wait_s)})


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
    road: Literal["endpoint", "offline"] = "endpoint"
    """Through an OpenAI-compatible endpoint, or with vLLM's engine inside Ray Data, with no server."""
    base_url: Url | None = None
    """An endpoint that runs already; None: the arms' models are served for the time of the stage."""
    api_key_env: VariableName | None = None
    max_new_tokens: int = Field(1024, ge=1)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, which they are no part of."""
    seed: int = Field(0, ge=0)
    """Of answers that are drawn; at temperature 0 there is nothing to draw."""
    max_concurrency: int = Field(256, ge=1)
    """What vLLM's engine works on at once; its own default for GPUs like the H100 is 1,024."""
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
        shaping = {"base_url", "max_new_tokens", "temperature", "top_p"}
        shaping |= {"stop"} if self.stop else set()
        return self.model_dump(mode="json", include=shaping | ({"seed"} if self.is_drawn else set()))

    @property
    def is_drawn(self) -> bool:
        """Whether the same prompt may get another answer."""
        return self.temperature > 0

    @model_validator(mode="after")
    def _endpoints_are_for_one_road(self) -> GenerateSettings:
        if self.road == "offline" and self.base_url is not None:
            raise ValueError("road offline asks no endpoint: take base_url away, or the road")
        return self


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1 up")
