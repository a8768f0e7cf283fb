"""An arm's rows as a training would see them, counted on a sample: tokens, steps, passes. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.row_forms import ALPACA, RowForm
from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.token_counts import tokenizer_of_file
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.base_models import base_model_file
from alpagasus_ray.train.batches import BatchPlan
from alpagasus_ray.train.examples import Example, build_examples
from alpagasus_ray.train.memory import Pass
from alpagasus_ray.train.validation import num_held_out

SAMPLE_SIZE = 2_000
"""Rows whose tokens are counted, evenly drawn; the others are taken to be like them."""
DEALT_STEPS = 40
"""Steps whose rows are dealt out to passes; the others are taken to be like them."""


@dataclass(frozen=True)
class Workload:
    """What one training goes through."""

    rows: int
    counted_rows: int
    dropped_rows: int
    """Whose prompt alone fills max_length_tokens."""
    validation_rows: int
    """Held out of training."""
    tokens: int
    """Of one epoch's examples, without padding."""
    target_tokens: int
    is_packed: bool
    steps_per_epoch: int
    sequences_per_pass: int
    """The most of one worker: rows, or packs of them."""
    passes_per_step: float
    """Of each worker, on average: the accumulation that micro-batches and workers leave."""
    padded_tokens: int
    """Of one epoch's passes, over all workers."""
    attended_tokens: int
    """Sum over the tokens of an epoch's passes of the length of their sequence."""
    largest_pass: Pass


@dataclass(frozen=True)
class Counted:
    """A sample of an arm's rows as examples."""

    rows: int
    """Of the arm."""
    counted_rows: int
    examples: tuple[Example, ...]
    """Of the counted rows, without those that are dropped."""


def count_examples(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    max_length_tokens: int,
    form: RowForm = ALPACA,
    template: str = "alpaca",
) -> Counted:
    """Return the examples of up to SAMPLE_SIZE rows, evenly drawn; `tokenizer` as build_examples wants it.

    Raises UserError where no row is left to train on.
    """
    counted = min(SAMPLE_SIZE, len(rows))
    sample = [rows[number * len(rows) // counted] for number in range(counted)]
    examples, _ = build_examples(sample, tokenizer, max_length_tokens, form, template)
    if not examples:
        raise UserError(
            f"no row is left to train on: every prompt fills train.max_length_tokens ({max_length_tokens})"
        )
    return Counted(len(rows), counted, tuple(examples))


def workload_of(counted: Counted, settings: TrainSettings) -> Workload:
    """Return what training on the counted rows, on GPUs, goes through.

    Raises UserError where train.validation_share leaves nothing to train on.
    """
    sample = counted.examples
    num_usable = round(counted.rows * len(sample) / counted.counted_rows)
    validation_rows = num_held_out(num_usable, settings.validation_share)
    num_examples = num_usable - validation_rows
    is_packed = settings.packing is not False
    plan = BatchPlan(
        num_examples,
        settings.global_batch_size,
        settings.micro_batch_size,
        settings.seed,
        settings.max_length_tokens if is_packed else None,
    )
    alike = [sample[number * len(sample) // num_examples] for number in range(num_examples)]
    return Workload(
        rows=counted.rows,
        counted_rows=counted.counted_rows,
        dropped_rows=counted.rows - num_usable,
        validation_rows=validation_rows,
        tokens=sum(len(example.input_ids) for example in alike),
        target_tokens=sum(example.num_target_tokens for example in alike),
        is_packed=is_packed,
        steps_per_epoch=plan.steps_per_epoch,
        **_deal(plan, alike, settings.workers),
    )


def _deal(plan: BatchPlan, examples: Sequence[Example], workers: int) -> dict[str, Any]:
    """Return what becomes of an epoch's rows, of which the first DEALT_STEPS steps are dealt out."""
    order = plan.epoch_order(0)
    steps = min(plan.steps_per_epoch, DEALT_STEPS)
    passes = padded = attended = most = most_tokens = most_targets = 0
    for step in range(steps):
        for rank in range(workers):
            batch = plan.global_batch(order, step, examples, rank, workers)
            passes += len(batch.micro_batches)
            for sequences in batch.micro_batches:
                members = [examples[index] for sequence in sequences for index in sequence]
                length = max((_length(sequence, examples) for sequence in sequences), default=0)
                padded += length * len(sequences)
                attended += length**2 * len(sequences)
                most = max(most, len(sequences))
                most_tokens = max(most_tokens, length * len(sequences))
                most_targets = max(most_targets, sum(one.num_target_tokens for one in members))
    scale = len(examples) / min(len(examples), steps * plan.global_batch_size)
    return {
        "sequences_per_pass": most,
        "passes_per_step": passes / (steps * workers),
        "padded_tokens": math.ceil(padded * scale),
        "attended_tokens": math.ceil(attended * scale),
        "largest_pass": Pass(most_tokens, most_targets),
    }


def _length(sequence: Sequence[int], examples: Sequence[Example]) -> int:
    return sum(len(examples[index].input_ids) for index in sequence)


@dataclass(frozen=True)
class FileTokenizer:
    """A model's tokenizer.json, called as transformers' tokenizers are; loads in milliseconds."""

    encode: Callable[..., Any]
    eos_token_id: int
    bos_token_id: int | None = None

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Return the ids of a text, as `input_ids`."""
        return {"input_ids": self.encode(text, add_special_tokens=add_special_tokens).ids}


def planning_tokenizer(run: RunDirectory, settings: TrainSettings) -> Any:
    """Return the base model's tokenizer for build_examples; raises UserError as read_tokenizer does."""
    names = ("tokenizer.json", "tokenizer_config.json")
    file, config_file = (base_model_file(run, settings, name) for name in names)
    if settings.template == "alpaca":
        return read_tokenizer(file, config_file)
    # Imported here: it brings torch, and only chat templates need all of transformers.
    from alpagasus_ray.train.models import load_tokenizer

    return load_tokenizer(str(file.parent))


def read_tokenizer(file: Path, config_file: Path) -> FileTokenizer:
    """Return the tokenizer of a tokenizer.json and the tokenizer_config.json beside it.

    Raises UserError for files that cannot be read, and for a tokenizer without an EOS token.
    """
    tokenizer = tokenizer_of_file(file)
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{config_file} cannot be read: {error}") from error
    eos_id, bos_id = (_token_id(tokenizer, config.get(name)) for name in ("eos_token", "bos_token"))
    if eos_id is None:
        raise UserError(f"{config_file}: the tokenizer has no EOS token, so no answer would ever end")
    return FileTokenizer(tokenizer.encode, eos_id, bos_id)


def _token_id(tokenizer: Any, token: object) -> int | None:
    """Return the id of a token as tokenizer_config.json names it: as text, or as an object with its text."""
    found: int | None = tokenizer.token_to_id(str(token["content"] if isinstance(token, dict) else token))
    return found
