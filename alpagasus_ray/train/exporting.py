"""The trained model as a Hugging Face folder that transformers and vLLM load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import GenerationConfig

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.adapters import merged, save_adapter
from alpagasus_ray.train.engines.base import Engine
from alpagasus_ray.train.job import CARD_FILE, METRICS_FILE, SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import last_metrics
from alpagasus_ray.train.model_card import model_card
from alpagasus_ray.train.models import load_model
from alpagasus_ray.train.prompting import PROMPTINGS

MAX_SHARD_SIZE = "5GB"
"""Of a weight file: the hub's own usual size. Each is loaded, and fetched anew after a break, by itself."""


def export(engine: Engine, model: Any, tokenizer: Any, job: TrainJob, summary: Mapping[str, Any]) -> None:
    """Write the trained model, in the precision it was trained with, its tokenizer, card and summary.

    Adapters are merged into the base model, or written alone, as the recipe says. All workers take part in
    gathering the weights; the first writes. The folder has the metrics of the last step already.
    """
    weights, lora, folder = engine.full_weights(), job.settings.lora, Path(job.export_folder)
    if engine.rank == 0:
        if empty := [name for name, tensor in weights.items() if not tensor.numel()]:
            raise ValueError(f"the weights of {empty[0]} and {len(empty) - 1} others were not gathered")
        prompting = PROMPTINGS[job.settings.template](tokenizer)
        generation = generation_config(tokenizer, prompting.end_id)
        if lora is not None and not lora.merge:
            save_adapter(model, weights, folder)
        elif lora is not None:
            whole = merged(load_model(job.model, tokenizer), lora, weights)
            _save(whole, whole.state_dict(), folder, job.settings, generation)
        else:
            _save(model, weights, folder, job.settings, generation)
        tokenizer.chat_template = prompting.chat_template()
        tokenizer.save_pretrained(folder)
        last = last_metrics(folder / METRICS_FILE)
        assert last is not None
        has_template = tokenizer.chat_template is not None
        card = model_card(job, summary, last, chat_template=has_template, pad_token=tokenizer.pad_token)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        (folder / SUMMARY_FILE).write_text(json.dumps(summary), encoding="utf-8")
        _readable_as_others_are(folder)
    if dist.is_initialized():
        dist.barrier()


def generation_config(tokenizer: Any, end_id: int) -> GenerationConfig:
    """Return how the model answers where nobody says: greedily, until what ended answers in training.

    Nothing of the base model's: its temperature would be vLLM's default for requests that name none.
    """
    ends = sorted({end_id, tokenizer.eos_token_id})
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=tokenizer.pad_token_id,
    )


def _save(
    model: Any,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    settings: TrainSettings,
    generation: GenerationConfig,
) -> None:
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model.config.use_cache = True
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(generation, name))
    model.generation_config = generation
    again = _tied_names(model)
    model.save_pretrained(
        folder,
        state_dict={name: tensor.to(dtype) for name, tensor in weights.items() if name not in again},
        max_shard_size=MAX_SHARD_SIZE,
    )
    # save_pretrained writes the live model's dtype over the config's; these weights have another.
    model.config.dtype = dtype
    model.config.save_pretrained(folder)


def _readable_as_others_are(folder: Path) -> None:
    """Give weights the rights that any new file has: safetensors writes them for their owner alone."""
    # Of what was just written: the process's own mask can be read only by changing it, for all threads.
    rights = (folder / SUMMARY_FILE).stat().st_mode
    for file in folder.glob("*.safetensors"):
        with suppress(OSError):  # some mounts know no rights: no reason to lose a training
            file.chmod(rights)


def _tied_names(model: torch.nn.Module) -> set[str]:
    """Return the further names of parameters that have several (a head that is the embedding).

    Gathered and converted by name, each would be written as a tensor of its own; who loads the folder ties
    them again.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return names - {name for name, _ in model.named_parameters()}
