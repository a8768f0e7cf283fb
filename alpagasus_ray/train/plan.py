"""What training an arm would go through, take and cost; starts nothing, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import duration
from alpagasus_ray.corpus.row_forms import RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import Recipe, TrainSettings
from alpagasus_ray.train.base_models import base_model_file
from alpagasus_ray.train.checking import check_rows
from alpagasus_ray.train.deepspeed_config import deepspeed_config, offloaded, read_deepspeed_config
from alpagasus_ray.train.fitting import fit_warning
from alpagasus_ray.train.flops import token_flops
from alpagasus_ray.train.gpus import GPUS_AS_OF, Gpu, gpu_named
from alpagasus_ray.train.memory import GIB, OVERHEAD_BYTES, Memory, memory_of, trained_parameters
from alpagasus_ray.train.model_shape import ModelShape, read_model_shape
from alpagasus_ray.train.parity import check_parity
from alpagasus_ray.train.workload import Workload, count_examples, planning_tokenizer, workload_of

DEFAULT_GPU = "a100-80"
"""The paper's."""
ASSUMED_MFU = 0.4
"""Model FLOPs utilisation: the share of a GPU's peak that the model's own arithmetic gets. PaLM reports 0.46
(arXiv 2204.02311, section 4.1); short sequences, small micro-batches and slow networks give less."""


@dataclass(frozen=True)
class TrainingPlan:
    """A training before it is started."""

    arm: str
    settings: TrainSettings
    work: Workload
    shape: ModelShape
    memory: Memory
    gpu_name: str
    gpu: Gpu
    usd_per_hour: float
    warning: str | None
    """One line, where it does not fit."""
    deepspeed: Mapping[str, Any] = field(default_factory=dict)
    """The user's own DeepSpeed JSON, which has the last word on stage and offload."""

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.work.steps_per_epoch * self.settings.epochs

    @property
    def flops(self) -> float:
        """Operations of the whole training."""
        return training_flops(self.shape, self.settings, self.work)

    @property
    def duration_s(self) -> float:
        """Seconds at ASSUMED_MFU on all workers, without loading, checkpoints and export."""
        return self.flops / (self.settings.workers * ASSUMED_MFU * self.gpu.peak_flops(self.settings))

    @property
    def cost_usd(self) -> float:
        """Dollars of that time on all workers' GPUs."""
        return self.duration_s / 3600 * self.settings.workers * self.usd_per_hour

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "arm": self.arm,
            "model": self.settings.model,
            **asdict(self.work),
            "epochs": self.settings.epochs,
            "steps": self.steps,
            "rows_per_step": self.settings.global_batch_size,
            "workers": self.settings.workers,
            "parameters": self.shape.parameters,
            "trained_parameters": trained_parameters(self.shape, self.settings),
            "memory": self.memory.to_dict(),
            "host_of_all_workers_gib": round(self.settings.workers * self.memory.host / GIB, 3),
            "gpu": {"name": self.gpu_name, **asdict(self.gpu), "usd_per_hour": self.usd_per_hour},
            "assumed_mfu": ASSUMED_MFU,
            "flops": self.flops,
            "duration_s": round(self.duration_s, 1),
            "cost_usd": round(self.cost_usd, 4),
            "warning": self.warning,
        }

    def to_text(self) -> str:
        """Return the plan as a table for a terminal."""
        settings, work = self.settings, self.work
        lora = "" if settings.lora is None else f", LoRA rank {settings.lora.rank}"
        quantized = ", NF4" if settings.lora is not None and settings.lora.quantization == "nf4" else ""
        zero = deepspeed_config(settings, self.deepspeed)["zero_optimization"]
        stage = f" ZeRO-{zero['stage']}" if settings.strategy == "deepspeed" else ""
        word = offloaded(settings, self.deepspeed)
        offload = "" if word == "none" else f", {word} offloaded"
        how = f"{settings.strategy}{stage}, {settings.precision}{lora}{quantized}{offload}"
        trained = trained_parameters(self.shape, settings)
        what = "packs" if work.is_packed else "rows"
        dropped = f"{work.dropped_rows:,} dropped: the prompt fills max_length_tokens"
        held_out = f"; {work.validation_rows:,} held out for validation" if work.validation_rows else ""
        lines = [
            ("arm", self.arm),
            ("model", str(settings.model)),
            ("parameters", f"{self.shape.parameters:,}, {trained:,} trained"),
            ("on", f"{settings.workers} x {self.gpu_name} ({how})"),
            ("rows", f"{work.rows:,} ({dropped}{held_out})"),
            ("tokens", f"{work.tokens:,} an epoch, {work.target_tokens:,} of them targets ({self._by()})"),
            ("steps", f"{self.steps:,}: {settings.epochs} epochs of {work.steps_per_epoch:,}"),
            (
                "a step",
                f"{settings.global_batch_size:,} rows: up to {work.sequences_per_pass} {what} in a pass of "
                f"each worker, accumulation {work.passes_per_step:.3g}",
            ),
            ("", ""),
            *self._memory_lines(),
            ("", ""),
            ("time", f"{duration(self.duration_s)} ({self._time_by()})"),
            ("cost", f"${self.cost_usd:,.2f} ({settings.workers} x {self._price_by()})"),
        ]
        if self.warning:
            lines += [("", ""), ("does not fit", self.warning)]
        return "\n".join(f"{name:<19}{value}".rstrip() for name, value in lines)

    def _by(self) -> str:
        counted = (
            "every row" if self.work.counted_rows == self.work.rows else f"{self.work.counted_rows:,} rows"
        )
        return f"{counted} counted by the model's tokenizer"

    def _memory_lines(self) -> list[tuple[str, str]]:
        memory, workers = self.memory, self.settings.workers
        together = f": {workers * memory.host / GIB:,.0f} for {workers} on one host" if workers > 1 else ""
        parts = [
            ("parameters", memory.parameters, ""),
            ("gradients", memory.gradients, ""),
            ("optimizer state", memory.optimizer_state, ""),
            ("activations", memory.activations, f" ({self.work.largest_pass.tokens:,} tokens)"),
            ("logits", memory.logits, f" ({self.work.largest_pass.target_tokens:,} targets)"),
            ("CUDA and NCCL", OVERHEAD_BYTES, " (assumed)"),
            ("all together", memory.total, f" of {self.gpu.memory_gib:g}"),
            ("before training", memory.loading + OVERHEAD_BYTES, ""),
            ("host memory", memory.host, f" (for each GPU; each worker loads the whole model{together})"),
        ]
        head = [("memory per GPU", "    GiB")]
        return head + [(f"  {name}", f"{value / GIB:>7.2f}{note}") for name, value, note in parts]

    def _time_by(self) -> str:
        peak = self.gpu.peak_flops(self.settings) / 1e12
        slower = (
            ""
            if offloaded(self.settings, self.deepspeed) == "none"
            else "; what is offloaded travels besides"
        )
        return (
            f"{self.flops:.2e} FLOPs at {ASSUMED_MFU:.0%} of {peak:g} TFLOP/s assumed, "
            f"loading and export besides{slower}"
        )

    def _price_by(self) -> str:
        if self.usd_per_hour == self.gpu.usd_per_hour:
            return f"${self.usd_per_hour:.2f} an hour assumed, {GPUS_AS_OF}; --gpu-usd-per-hour sets another"
        return f"${self.usd_per_hour:.2f} an hour"


def training_flops(shape: ModelShape, settings: TrainSettings, work: Workload) -> float:
    """Return the operations of a whole training.

    Those that checkpointed layers are worked out again with count as well.
    """
    each = token_flops(shape, settings, recomputed=True)
    return settings.epochs * each.of(work.padded_tokens, work.attended_tokens)


def plan_training(
    run: RunDirectory,
    recipe: Recipe,
    arm: str,
    gpu_name: str = DEFAULT_GPU,
    usd_per_hour: float | None = None,
) -> TrainingPlan:
    """Return what `train --arm ARM` with this recipe would go through.

    Raises UserError for an arm that has no rows yet or too few, for a model whose config or tokenizer is not
    on this machine or of another form than Llama's, for prompts that serving would see in other tokens, and
    for a GPU that is not in the table.
    """
    gpu = gpu_named(gpu_name)
    if usd_per_hour is not None and not usd_per_hour >= 0:
        raise UserError(f"--gpu-usd-per-hour {usd_per_hour}: a price is 0 or more")
    settings = recipe.train
    own = read_deepspeed_config(settings)
    shape = read_model_shape(base_model_file(run, settings, "config.json"))
    tokenizer = planning_tokenizer(run, settings)
    rows, form = _rows(run, arm)
    check_rows(rows, form, settings)
    check_parity(rows, form, settings.template, tokenizer, tokenizer, settings.seed)
    counted = count_examples(rows, tokenizer, settings.max_length_tokens, form, settings.template)
    work = workload_of(counted, settings)

    def memory_with(changed: TrainSettings) -> Memory:
        dealt = work if changed == settings else workload_of(counted, changed)
        return memory_of(shape, changed, dealt.largest_pass, own if changed.strategy == "deepspeed" else None)

    return TrainingPlan(
        arm=arm,
        settings=settings,
        work=work,
        shape=shape,
        memory=memory_with(settings),
        gpu_name=gpu_name,
        gpu=gpu,
        usd_per_hour=gpu.usd_per_hour if usd_per_hour is None else usd_per_hour,
        warning=fit_warning(settings, gpu_name, gpu, memory_with),
        deepspeed=own,
    )


def _rows(run: RunDirectory, arm: str) -> tuple[list[dict[str, Any]], RowForm]:
    if run.manifest(run.arm(arm)) is None and run.manifest(run.triplets) is None:
        raise UserError(
            f"{run.uri} has no rows to plan for: run `alpagasus grade --data FILE`, then `alpagasus select "
            f"--arm {arm}`"
        )
    manifest = run.require(run.arm(arm), f"select --arm {arm}")
    rows = json.loads(run.read_text(f"{run.arm(arm)}/train.json"))
    return rows, RowForm.from_json(manifest.details.get("row_form"))
