"""How many tokens a served model takes: told to clients, and counted with before an engine is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alpagasus_ray.model_sources import ModelFiles
from alpagasus_ray.recipe_serving import WHAT_FITS
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ADAPTER_CONFIG, ServedModel, read_config

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings


LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
"""What configs call the number of positions; the least counts."""
SCALINGS = ("rope_scaling", "rope_parameters")
AS_IT_STANDS = ("llama3", "longrope", "su")
"""Kinds of scaled positions that `max_position_embeddings` counts in already; `su` is LongRoPE's old name."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a model takes, in tokens, prompt and answer together."""

    tokens: int | None
    """None: nobody says, or vLLM works it out for itself."""
    assumed: int | None
    """What is to be counted with, where that is not known, too."""


@dataclass(frozen=True, slots=True)
class OwnLengths:
    """What a config.json means to vLLM, in tokens; None where that is not known."""

    most: int | None
    """What it can be told to take."""
    unasked: int | None
    """What it takes where nobody tells it."""


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
    told, asked = settings.engine.get("max_model_len"), settings.max_model_length_tokens
    if told is not None and told != WHAT_FITS:
        return Window(told, told)
    config = _changed(read_config(folder) if folder else {}, settings.engine.get("hf_overrides"))
    own = own_lengths(config)
    if told == WHAT_FITS:
        return Window(None, own.unasked)
    if asked is None:
        return Window(own.unasked, own.unasked or _length(config))
    # vLLM refuses a length beyond the model's own.
    tokens = asked if own.most is None else min(asked, own.most)
    return Window(tokens, tokens)


def own_lengths(config: Mapping[str, Any]) -> OwnLengths:
    """Return the lengths that a model's config.json means to vLLM (vllm.config.model, vLLM 0.29).

    Scaled positions (transformers' rope_scaling, now rope_parameters) go on beyond those of the config, by a
    factor. Those of Llama 3 and LongRoPE are in it as they stand; of LongRoPE's, vLLM takes no more than
    there were before they were scaled, unless it is told to.
    """
    length, scalings = _length(config), _scalings(config)
    if length is None or scalings is None:
        return OwnLengths(None, None)
    before = _count(config, "original_max_position_embeddings")
    kinds = [one.get("rope_type", one.get("type", "default")) for one in scalings]
    factor: Any = 1.0
    for kind, scaling in zip(kinds, scalings, strict=True):
        if kind not in AS_IT_STANDS:
            factor = scaling.get("factor", factor)
        if kind == "yarn":
            length = before or _count(scaling, "original_max_position_embeddings") or length
    if "gemma3" in str(config.get("model_type")):  # its length is that of the scaled positions
        factor = 1.0
    if isinstance(factor, bool) or not isinstance(factor, int | float | None):
        return OwnLengths(None, None)
    most = int(length * (1.0 if factor is None else factor))
    is_long = any(kind in ("longrope", "su") for kind in kinds)
    return OwnLengths(most, before if is_long and before is not None else most)


def _changed(config: Mapping[str, Any], overrides: Any) -> Mapping[str, Any]:
    """Return the config with vLLM's hf_overrides, which take the place of what was there."""
    if not isinstance(overrides, dict):
        return config
    replaced = SCALINGS if any(name in overrides for name in SCALINGS) else ()
    return {name: value for name, value in config.items() if name not in replaced} | overrides


def _scalings(config: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return how positions are scaled, or those of each kind of layer; None: nothing is to be made of it."""
    scaling: Any = next((config[name] for name in SCALINGS if config.get(name)), {})
    if not isinstance(scaling, dict):
        return None
    of_layers = [one for one in scaling.values() if isinstance(one, dict)]
    return of_layers or [scaling]


def _length(config: Mapping[str, Any]) -> int | None:
    lengths = [count for name in LENGTHS if (count := _count(config, name)) is not None]
    return _count(config, "model_max_length") or min(lengths, default=None)


def _count(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
