"""The recipe's section on training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from alpagasus_ray.recipe_section import Section


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
    """Sequences per forward pass of one worker: rows, or packs of them."""
    packing: bool | None = None
    """Several short rows of a step in one sequence of max_length_tokens, none of which sees another. The
    same rows are in each step as without it. None: on GPUs; on CPUs rows of similar length side by side
    are faster."""
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
        dealt_out = {"strategy", "workers", "threads_per_worker", "micro_batch_size", "packing"}
        memory = {"activation_checkpointing", "reshard_after_forward"}
        return self.model_dump(
            exclude={"model", "checkpoint_every_steps", "max_failures", *dealt_out, *memory}
        )
