"""One contender of benchmarks/training.py in a process of its own: it trains, then says how fast it was.

    python -m benchmarks.training_worker RUN.json

It needs torch, transformers, accelerate and this package; no Ray, no vLLM.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.batches import BatchPlan
from alpagasus_ray.train.collate import IGNORED
from alpagasus_ray.train.examples import Example, build_examples
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.loop import Callbacks, train
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.worker import ENGINES

MATRIX_SIDE = 8192
WARM_STEPS = 2
"""Steps that are not timed: they allocate memory and choose kernels."""


@dataclass(frozen=True)
class Run:
    """What one contender is asked to do."""

    contender: str
    """`trainer`, `ours` or `matmul`."""
    started_s: float
    """When its process was started, by time.time()."""
    out: str
    """The JSON file that the first worker writes."""
    model: str = ""
    rows: str = ""
    num_rows: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    """TrainSettings of every contender."""
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """TrainingArguments of transformers besides those that the settings say."""


@dataclass
class Seen:
    """What was seen of one contender."""

    first_step_s: float = 0.0
    """From the start of its process to the end of the first optimizer step."""
    tokens_per_s: float = 0.0
    """Without padding, after WARM_STEPS."""
    peak_mib: float = 0.0
    """The largest of a process: of the GPU, or resident memory."""
    loss: float = 0.0
    """Of the last step, in nats per target token."""
    tokens: int = 0
    """Of all steps, without padding."""


class Watch:
    """Notes when each step ended and how many tokens it had."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._ends_s: list[float] = []
        self._tokens: list[int] = []

    def on_step(self, tokens: int) -> None:
        """Note the end of a step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._ends_s.append(time.time())
        self._tokens.append(tokens)

    def seen(self, loss: float) -> Seen:
        """Return the figures; the peak is this process's own."""
        timed_s = self._ends_s[-1] - self._ends_s[WARM_STEPS - 1]
        rate = sum(self._tokens[WARM_STEPS:]) / timed_s
        first_s = self._ends_s[0] - self._started_s
        return Seen(first_s, rate, peak_mib(), loss, sum(self._tokens))


def peak_mib() -> float:
    """Return the most memory of this process so far, on its GPU where it has one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def load(run: Run, settings: TrainSettings) -> tuple[Any, Any, list[Example]]:
    """Return model, tokenizer and the first examples: the same for every contender."""
    torch.set_num_threads(settings.threads_per_worker)
    torch.manual_seed(settings.seed)
    tokenizer = load_tokenizer(run.model)
    rows = json.loads(Path(run.rows).read_text(encoding="utf-8"))
    examples, _ = build_examples(rows, tokenizer, settings.max_length_tokens)
    if len(examples) < run.num_rows:
        raise SystemExit(f"{run.rows} has {len(examples)} examples, and {run.num_rows} are wanted")
    return load_model(run.model, tokenizer), tokenizer, examples[: run.num_rows]


def run_ours(run: Run) -> Seen | None:
    """Train with this package's loop and engine; the first worker returns what was seen."""
    settings = TrainSettings.model_validate(run.settings)
    is_cuda = torch.cuda.is_available()
    device = torch.device("cuda", 0) if is_cuda else torch.device("cpu")
    if settings.strategy != "single":
        dist.init_process_group("nccl" if is_cuda else "gloo")
        if is_cuda:
            device = torch.device("cuda", dist.get_node_local_rank())
            torch.cuda.set_device(device)
    model, tokenizer, examples = load(run, settings)
    job = TrainJob(run.model, run.rows, "", settings)
    engine = ENGINES[settings.strategy](model, job, device)
    order = BatchPlan(len(examples), settings.global_batch_size, 1, settings.seed).epoch_order(0)
    watch, losses = Watch(run.started_s), [0.0]

    def on_step(metrics: Any) -> None:
        start = (metrics.step - 1) * settings.global_batch_size
        losses[0] = metrics.loss
        rows = order[start : start + settings.global_batch_size]
        watch.on_step(sum(len(examples[index].input_ids) for index in rows))

    train(engine, examples, settings, tokenizer.pad_token_id, Callbacks(on_step, lambda *_: None))
    seen = watch.seen(losses[0])
    if dist.is_initialized():
        peaks: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(peaks, seen.peak_mib)
        seen.peak_mib = max(peaks)
        is_first = dist.get_rank() == 0
        dist.destroy_process_group()
        return seen if is_first else None
    return seen


def run_trainer(run: Run) -> Seen:
    """Train with transformers.Trainer, as instruction tuning scripts do: padded to the longest of a batch."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    settings = TrainSettings.model_validate(run.settings)
    model, tokenizer, examples = load(run, settings)
    watch, counted, losses = Watch(run.started_s), [0], [0.0]

    def count(_: Any, args: Any, inputs: Mapping[str, torch.Tensor]) -> None:
        counted[0] += int(inputs["attention_mask"].sum())

    class Told(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.on_step(counted[0])
            counted[0] = 0

        def on_log(self, *args: Any, logs: Mapping[str, float], **_: Any) -> None:
            losses[0] = logs.get("loss", losses[0])

    model.register_forward_pre_hook(count, with_kwargs=True)
    arguments = TrainingArguments(
        output_dir=str(Path(run.out).with_suffix("")),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.global_batch_size // settings.micro_batch_size,
        num_train_epochs=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_gradient_norm,
        bf16=settings.precision == "bf16",
        gradient_checkpointing=settings.activation_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        **run.trainer,
    )
    Trainer(
        model=model,
        args=arguments,
        train_dataset=labelled(examples),
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        callbacks=[Told()],
    ).train()
    return watch.seen(losses[0])


def labelled(examples: Sequence[Example]) -> list[dict[str, list[int]]]:
    """Return the examples as Trainer takes them: the labels of prompts masked."""
    return [
        {
            "input_ids": list(one.input_ids),
            "attention_mask": [1] * len(one.input_ids),
            "labels": [IGNORED] * one.num_prompt_tokens + list(one.input_ids[one.num_prompt_tokens :]),
        }
        for one in examples
    ]


def run_matmul(run: Run) -> Seen:
    """Return the GPU's rate at a large bfloat16 matrix product: `tokens_per_s` is in FLOP/s."""
    left = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device="cuda", dtype=torch.bfloat16)
    right = torch.randn_like(left)
    best = 0.0
    for _ in range(10):
        torch.cuda.synchronize()
        started_s = time.perf_counter()
        for _ in range(20):
            left @ right
        torch.cuda.synchronize()
        best = max(best, 20 * 2 * MATRIX_SIDE**3 / (time.perf_counter() - started_s))
    return Seen(tokens_per_s=best)


CONTENDERS = {"ours": run_ours, "trainer": run_trainer, "matmul": run_matmul}


def main() -> None:
    """Run the contender of a file and write what was seen."""
    run = Run(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    seen = CONTENDERS[run.contender](run)
    if seen is not None:
        Path(run.out).write_text(json.dumps(asdict(seen)), encoding="utf-8")


if __name__ == "__main__":
    main()
