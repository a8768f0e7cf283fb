"""The recipe's section on training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from alpagasus_ray.recipe_section import Address, Section


class LoraSettings(Section):
    """Low-rank adapters (LoRA, arXiv 2106.09685). Defaults: QLoRA's for 7B, 13B (arXiv 2305.14314, B.2)."""

    rank: int = Field(64, ge=1)
    alpha: float = Field(16, gt=0)
    """What an adapter adds is scaled by alpha / rank."""
    dropout: float = Field(0.1, ge=0, lt=1)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, such as q_proj; all-linear: all but the head."""
    quantization: Literal["none", "nf4"] = "none"
    """nf4: the frozen weights are held in 4 bits (QLoRA, with double quantisation)."""
    merge: bool = True
    """Write the whole model with the adapter merged in; false: the adapter alone, for its base model."""


class TrainSettings(Section):
    """Fine-tuning. Defaults: the paper's 7B settings (arXiv 2307.08701, appendix)."""

    model: str | None = None
    """A Hugging Face folder or hub id, or `toyworld`."""
    strategy: Literal["fsdp", "deepspeed", "single"] = "fsdp"
    zero_stage: Literal[1, 2, 3] = 2
    """DeepSpeed: what is sharded: the optimizer's state, gradients too, parameters too."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """What waits in the hosts' memory instead of the GPUs': the optimizer's state (DeepSpeed), or parameters
    as well (FSDP2: with gradients and the optimizer's state)."""
    deepspeed_config: str | None = None
    """A DeepSpeed JSON of one's own, laid over what this section says; or the published settings of a size by
    name: alpagasus-7b, alpagasus-13b, alpagasus-33b, alpagasus-65b."""
    workers: int = Field(2, ge=1)
    min_workers: int | None = Field(None, ge=1)
    """Elastic: where nodes are lost, training goes on from the last checkpoint with as few workers as these,
    and with more when nodes come back. None: it waits until there is room for all."""
    accelerator: Literal["auto", "gpu", "cpu"] = "auto"
    """What the workers run on. auto: GPUs, where the cluster has any now. A cluster that starts its GPU nodes
    when they are asked for has to be told (and `wait_for_nodes_s`, how long that takes)."""
    resize_every_s: float = Field(60.0, gt=0)
    """How often an elastic training looks whether there is room for more workers."""
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
    template: Literal["alpaca", "chat"] = "alpaca"
    """What an instruction is written into, in training and when the arm is asked. alpaca: the paper's, saved
    as the chat template of what is written; chat: the base model's own chat template."""
    precision: Literal["bf16", "fp32"] = "bf16"
    lora: LoraSettings | None = None
    """Train adapters instead of the model itself. None: the model."""
    activation_checkpointing: bool = False
    reshard_after_forward: bool | None = None
    """FSDP2: free each layer's gathered parameters between forward and backward, and reduce gradients after
    every pass. False gathers and reduces once an optimizer step: faster, and parameters and gradients stand
    whole in each worker's memory. None: true on GPUs, false on CPUs."""
    validation_share: float = Field(0.0, ge=0, lt=1)
    """Share of the arm's rows that is drawn by the seed and never trained on: the loss on it is measured at
    each checkpoint."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Where the figures of metrics.jsonl go as well: TensorBoard's files beside it; Weights & Biases and
    MLflow, which take addresses and keys from their own environment variables (WANDB_API_KEY,
    MLFLOW_TRACKING_URI)."""
    checkpoint_every_steps: int | None = Field(None, ge=1)
    """None: a checkpoint at the end of every epoch."""
    checkpoint_storage: Address | None = None
    """Where checkpoints go, as an address that pyarrow.fs can open (s3://, gs://, a folder of all nodes).
    None: into the run directory."""
    keep_checkpoints: int = Field(0, ge=0)
    """How many of the newest stay when the model is done. While training runs, one at least is there."""
    max_failures: int = Field(2, ge=0)
    """How often a lost worker is replaced and training goes on from the last checkpoint."""
    seed: int = 42

    @model_validator(mode="after")
    def _settings_go_together(self) -> TrainSettings:
        if self.strategy == "single" and self.workers != 1:
            raise ValueError("strategy single runs one worker: set train.workers to 1, or strategy to fsdp")
        if self.deepspeed_config is not None and self.strategy != "deepspeed":
            raise ValueError("deepspeed_config goes with strategy deepspeed")
        if self.offload == "optimizer" and self.strategy != "deepspeed":
            raise ValueError("offload optimizer goes with strategy deepspeed; for fsdp say parameters")
        if self.offload == "parameters" and self.strategy == "deepspeed" and self.zero_stage != 3:
            raise ValueError("offload parameters goes with zero_stage 3: below it each GPU holds all")
        if self.lora is not None and self.lora.quantization != "none" and self.strategy == "deepspeed":
            raise ValueError("lora.quantization goes with strategy single or fsdp: ZeRO has no 4 bits")
        if self.min_workers is not None and self.strategy != "fsdp":
            raise ValueError("min_workers goes with strategy fsdp: the others cannot change their workers")
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers is more than workers")
        if self.offload != "none" and self.strategy == "single":
            raise ValueError("offload goes with strategy fsdp or deepspeed")
        return self

    def shapes_result(self) -> dict[str, Any]:
        """Return the settings that change the trained model by more than rounding.

        How the work is dealt out (strategy, workers, micro-batches, memory against time) is not among
        them: a run that ran out of memory goes on with a smaller micro-batch. Nor is where figures go.
        """
        dealt_out = {"strategy", "workers", "min_workers", "resize_every_s", "threads_per_worker"}
        dealt_out |= {"micro_batch_size", "packing", "accelerator"}
        memory = {"activation_checkpointing", "reshard_after_forward", "zero_stage", "offload"}
        elsewhere = {"model", "deepspeed_config", "max_failures"}
        elsewhere |= {"checkpoint_every_steps", "checkpoint_storage", "keep_checkpoints", "trackers"}
        return self.model_dump(exclude={*elsewhere, *dealt_out, *memory})
