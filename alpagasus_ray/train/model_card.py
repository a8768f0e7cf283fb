"""What a trained folder says of itself: README.md in the form of the Hugging Face hub. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpagasus_ray.corpus.template import WITH_INPUT, WITHOUT_INPUT, render_prompt
from alpagasus_ray.storage import last_part
from alpagasus_ray.train.job import TrainJob

TEMPLATE_FILE = "model_card.md.jinja"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
"""A folder in the hub's cache: models--OWNER--NAME/snapshots/REVISION."""


def model_card(
    job: TrainJob, summary: Mapping[str, Any], last: Mapping[str, Any], *, chat_template: bool, pad_token: str
) -> str:
    """Return the card of a job's model: what it was trained on and how, and how it is loaded and asked.

    `summary` is that of training.json, `last` the last line of metrics.jsonl; `chat_template` says whether
    the tokenizer has one, `pad_token` what it pads with: one of its own where the base model had none. No
    times and no paths are on it.
    """
    # Imported here, both: only an export has a card.
    import jinja2
    from huggingface_hub import ModelCardData

    lora = job.settings.lora
    adapters_alone = lora is not None and not lora.merge
    hub_id = base_model_hub_id(job.model)
    front = ModelCardData(
        base_model=hub_id,
        base_model_relation=None if hub_id is None else "adapter" if adapters_alone else "finetune",
        library_name="peft" if adapters_alone else "transformers",
        pipeline_tag="text-generation",
        tags=["alpagasus", "instruction-tuning", *(["lora"] if lora else [])],
    )
    page = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    ).from_string((Path(__file__).parent / TEMPLATE_FILE).read_text(encoding="utf-8"))
    return page.render(
        front_matter=front.to_yaml(),
        name=Path(job.export_folder).name,
        base_model=hub_id or last_part(job.model),
        adapters_alone=adapters_alone,
        lora_rank=lora.rank if lora else None,
        settings=_flat(job.settings.shapes_result()),
        strategy=job.settings.strategy,
        elastic=job.settings.min_workers is not None,
        pad_token=pad_token,
        summary=summary,
        last=last,
        template=job.settings.template,
        chat_template=chat_template,
        without_input=WITHOUT_INPUT,
        with_input=WITH_INPUT,
        example_prompt=json.dumps(render_prompt("Name a fruit.")),
    )


def base_model_hub_id(model: str) -> str | None:
    """Return the id by which the hub knows a base model; None for a folder that does not tell.

    >>> base_model_hub_id("/cache/models--meta-llama--Llama-3.2-1B/snapshots/4e20de36")
    'meta-llama/Llama-3.2-1B'
    """
    if cached := _CACHED.search(model):
        return f"{cached[1]}/{cached[2]}"
    folder = Path(model).expanduser()
    if not folder.exists():
        return model if _HUB_ID.fullmatch(model) else None
    return None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted names, without those that are not set."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        elif value is not None:
            flat[f"{prefix}{key}"] = ", ".join(value) if isinstance(value, list | tuple) else value
    return flat
