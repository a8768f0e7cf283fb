"""How many tokens a served model takes: told to clients, and counted with before an engine is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alpagasus_ray.model_sources import ModelFiles
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ADAPTER_CONFIG, ServedModel, read_config

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings


@dataclass(frozen=True, slots=True)
class Window:
    """What a model takes, in tokens, prompt and answer together."""

    tokens: int | None
    """None: nobody says, or vLLM works it out for itself."""
    at_least: int | None
    """What it takes in any case. None: not known either."""


@dataclass(frozen=True, slots=True)
class OwnLengths:
    """What a config.json says, in tokens; None where it does not say it plainly."""

    most: int | None
    """What vLLM can be told to take."""
    unasked: int | None
    """What it takes where nobody tells it."""
    at_least: int | None


def window_of(model: ServedModel, settings: ServeSettings) -> Window:
    """Return the window of a served model, whose folder need not be here where an endpoint has it.

    Raises UserError where an adapter's base is not there.
    """
    files = ModelFiles(model.folder)
    holds_model = files.exists("config.json") or files.exists(ADAPTER_CONFIG)
    base = engines_of([model], settings.base_model)[0].folder if holds_model else None
    return engine_window(base, settings)


def engine_window(folder: str | None, settings: ServeSettings) -> Window:
    """Return the window of a base model in a folder, or of one that is nowhere here."""
    if (told := settings.engine.get("max_model_len")) is not None:
        tokens = told if told > 0 else None
        return Window(tokens, tokens)
    overrides = settings.engine.get("hf_overrides", {})
    own = own_lengths(read_config(folder) if folder else {}, overrides)
    if (asked := settings.max_model_length_tokens) is None:
        return Window(own.unasked, own.at_least)
    # vLLM refuses a length beyond the model's own.
    tokens = asked if own.most is None else min(asked, own.most)
    return Window(tokens, tokens)


def own_lengths(config: Mapping[str, Any], overrides: Any = None) -> OwnLengths:
    """Return the lengths that a model's config.json means to vLLM, `overrides` being its hf_overrides.

    Positions that are scaled (transformers' rope_scaling, now rope_parameters) may go on beyond
    `max_position_embeddings`. Those of Llama 3 and LongRoPE stand in it as they are, and vLLM takes no more
    of LongRoPE's than there were before they were scaled, unless it is told to (vllm.config.model).
    """
    changed = overrides if isinstance(overrides, dict) else {}
    config = {**config, **changed}
    length = _count(config, "max_position_embeddings")
    # What is changed within a part of the config may be how positions are scaled.
    is_plain = not any(isinstance(value, dict) for value in changed.values())
    kind = _scaling_kind(config) if is_plain else None
    if kind in ("longrope", "su"):
        before = _count(config, "original_max_position_embeddings")
        return OwnLengths(length, before, before)
    if kind in ("default", "llama3", "mrope"):
        return OwnLengths(length, length, length)
    return OwnLengths(None, None, length)


def _scaling_kind(config: Mapping[str, Any]) -> str | None:
    """Return how positions are scaled; None where layers differ in it, or nothing is to be made of it."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(scaling, dict) or any(isinstance(one, dict) for one in scaling.values()):
        return None
    return scaling.get("rope_type", scaling.get("type", "default"))


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
