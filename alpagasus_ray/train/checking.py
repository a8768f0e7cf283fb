"""What would stop a training, looked for before a worker starts. No torch until a tokenizer is loaded."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from alpagasus_ray.corpus.row_forms import RejectedRowError, RowForm
from alpagasus_ray.corpus.triplets import parse_triplet
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.base_models import check_weights, torch_has_cuda
from alpagasus_ray.train.deepspeed_config import offloaded
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.memory import trained_parameters
from alpagasus_ray.train.model_shape import shape_of
from alpagasus_ray.train.parity import check_parity
from alpagasus_ray.train.prompting import PROMPTINGS
from alpagasus_ray.train.tokenizing import read_rows
from alpagasus_ray.train.validation import num_held_out

ACCELERATOR = "accelerator_type:"
"""What the names of a node's kinds of cards begin with among Ray's resources."""
WITHOUT_BF16 = frozenset({"K80", "P4", "P100", "V100", "T4"})
"""Ray's names of NVIDIA cards before Ampere, whose tensor cores do not know bfloat16 (CUDA C++ Programming
Guide, arithmetic throughput by compute capability: from 8.0 on)."""


def worker_resource(settings: TrainSettings, resources: Mapping[str, float]) -> str:
    """Return what each worker takes one of: GPU or CPU.

    Raises UserError where torch cannot use what is wanted.
    """
    if settings.accelerator == "gpu" and not torch_has_cuda():
        raise UserError("train.accelerator is gpu, and torch here is built for CPUs: install a CUDA build")
    is_gpu = resources.get("GPU", 0) > 0 and torch_has_cuda()
    return "GPU" if settings.accelerator == "gpu" or (settings.accelerator == "auto" and is_gpu) else "CPU"


def check_cluster(
    settings: TrainSettings, resources: Mapping[str, float], own: Mapping[str, Any] | None = None
) -> None:
    """Raise UserError for what a cluster with these resources (Ray's) cannot do.

    `own` is the user's DeepSpeed JSON.
    """
    resource = worker_resource(settings, resources)
    there = int(resources.get(resource, 0))
    wanted = settings.min_workers or settings.workers
    if wanted > there:
        raise UserError(
            f"training wants {wanted} workers and the cluster has {there} {resource}s: "
            + (f"set --workers {there}, or add nodes" if there else "add nodes, or raise wait_for_nodes_s")
        )
    if resource == "CPU":
        if offloaded(settings, own or {}) != "none":
            said = "train.offload" if settings.offload != "none" else "offloading in train.deepspeed_config"
            raise UserError(f"{said} moves memory from GPUs to the hosts, and here are no GPUs: leave it out")
        return
    cards = sorted(name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR))
    if settings.precision == "bf16" and cards and WITHOUT_BF16.issuperset(cards):
        raise UserError(no_bf16_line(", ".join(cards)))


def no_bf16_line(card: str) -> str:
    """Return one line on a card that cannot train in bf16."""
    return (
        f"train.precision is bf16, which a {card} cannot: set it to fp32, or take cards from Ampere (A100) on"
    )


def check_inputs(job: TrainJob) -> str | None:
    """Raise UserError where base model, tokenizer and rows do not go together.

    Returns one line on rows that will be set aside, None where there are none. Loads the tokenizer; of
    the weights it is seen that they are there.
    """
    # Imported here: it brings torch, which a run with nothing to train does not need.
    from transformers import AutoTokenizer

    from alpagasus_ray.train.models import load_config, load_tokenizer, source_here

    rows = read_rows(job)
    set_aside = check_rows(rows, job.row_form, job.settings)
    config = load_config(job.model)
    check_weights(job.model, source_here(job.model))
    tokenizer = load_tokenizer(job.model)
    check_vocabulary(job.model, tokenizer, config.get_text_config().vocab_size)
    check_shape(config.get_text_config().to_dict(), job.settings)
    prompting = PROMPTINGS[job.settings.template](tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        # What will be written, loaded as vLLM loads it: not every tokenizer survives that.
        template, tokenizer.chat_template = tokenizer.chat_template, prompting.chat_template()
        tokenizer.save_pretrained(folder)
        config.save_pretrained(folder)
        tokenizer.chat_template = template
        served = AutoTokenizer.from_pretrained(folder)
    check_parity(rows, job.row_form, job.settings.template, tokenizer, served, job.settings.seed)
    return set_aside


def check_rows(rows: Sequence[Mapping[str, Any]], form: RowForm, settings: TrainSettings) -> str | None:
    """Return one line on rows that cannot be trained on; raises UserError for too few others."""
    reasons: Counter[str] = Counter()
    for row in rows:
        try:
            parse_triplet(row, form)
        except RejectedRowError as error:
            reasons[str(error)] += 1
    told = ", ".join(f"{count:,} ({reason})" for reason, count in reasons.most_common())
    left = len(rows) - reasons.total()
    held_out = num_held_out(left, settings.validation_share) if left else 0
    left -= held_out
    if left < settings.global_batch_size:
        missing = [told] * bool(told) + [f"{held_out:,} held out by train.validation_share"] * bool(held_out)
        without = f" (without {', '.join(missing)})" if missing else ""
        raise UserError(
            f"the arm has {left:,} rows to train on{without} and a global batch takes "
            f"{settings.global_batch_size:,}: lower train.global_batch_size, or select more rows"
        )
    return f"{reasons.total():,} rows are set aside: {told}" if told else None


def check_shape(config: Mapping[str, Any], settings: TrainSettings) -> None:
    """Raise UserError for rows beyond the model's positions, and adapters on layers that it has not got."""
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and settings.max_length_tokens > positions:
        raise UserError(
            f"train.max_length_tokens is {settings.max_length_tokens:,} and the model's positions end at "
            f"{positions:,}: lower it"
        )
    try:
        shape = shape_of(config, "config.json")
    except UserError:
        return  # no Llama: peft will know the layers
    trained_parameters(shape, settings)


def check_vocabulary(model: str, tokenizer: Any, num_embeddings: int) -> None:
    """Raise UserError for a tokenizer with tokens that the model has no embedding for.

    A pad token behind the others is none: where it is missing it is added in the same place, and its
    embedding with it.
    """
    beyond = [number for number in tokenizer.get_vocab().values() if number >= num_embeddings]
    if beyond and beyond != [tokenizer.pad_token_id]:
        raise UserError(
            f"{model}: the tokenizer has {max(beyond) + 1:,} tokens and the model embeddings for "
            f"{num_embeddings:,}: it is another model's; put the model's own tokenizer beside its weights"
        )
