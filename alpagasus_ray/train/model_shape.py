"""What a Llama-like model's config.json says of its size: parameters without loading any. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError, nearest

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Of one decoder layer: attention's, then the MLP's."""
EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class ModelShape:
    """The dimensions of a decoder of Llama's build: RMSNorm, SwiGLU, grouped queries, no biases.

    The biases and further norms of its relatives (Qwen, Gemma) are under 0.1 % of the parameters: they are
    not counted.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_size: int
    vocabulary_size: int
    is_tied: bool
    """The output head is the input embedding."""

    @property
    def linear_sizes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of one decoder layer, by name."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.num_heads * self.head_size, self.num_key_value_heads * self.head_size
        sizes = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
        sizes += [(hidden, inner), (hidden, inner), (inner, hidden)]
        return dict(zip(LINEAR_LAYERS, sizes, strict=True))

    @property
    def layer_linear_parameters(self) -> int:
        """Parameters of the linear layers of one decoder layer."""
        return sum(inputs * outputs for inputs, outputs in self.linear_sizes.values())

    @property
    def largest_linear_parameters(self) -> int:
        """Weights of the largest linear map in a layer."""
        return max(inputs * outputs for inputs, outputs in self.linear_sizes.values())

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer: its linear layers and two norms."""
        return self.layer_linear_parameters + 2 * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding, and as many of a head that is not tied to it."""
        return self.vocabulary_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All parameters.

        >>> ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False).parameters  # Llama-7B
        6738415616
        """
        embeddings = self.embedding_parameters * (1 if self.is_tied else 2)
        return embeddings + self.num_layers * self.layer_parameters + self.hidden_size

    @property
    def multiplied_parameters(self) -> int:
        """Parameters that a token is multiplied by: an input embedding is only looked up."""
        return self.parameters - (0 if self.is_tied else self.embedding_parameters)

    def adapter_parameters(self, rank: int, targets: Sequence[str] | str) -> int:
        """Return how many parameters LoRA adapters of a rank have: rank * (inputs + outputs) each.

        `targets` names layers, or is `all-linear`. Raises UserError for a layer that is not there.
        """
        return self.num_layers * sum(rank * sum(self.linear_sizes[name]) for name in target_names(targets))


def target_names(targets: Sequence[str] | str) -> tuple[str, ...]:
    """Return the linear layers that get an adapter; raises UserError for one that is not there."""
    if isinstance(targets, str):
        return LINEAR_LAYERS
    names = tuple(target.rpartition(".")[2] for target in targets)
    for name in names:
        if name not in LINEAR_LAYERS:
            raise UserError(f"train.lora.targets: no layer {name}.{nearest(name, LINEAR_LAYERS)}")
    return names


def read_model_shape(file: str | Path) -> ModelShape:
    """Return the shape in a config.json; raises UserError that names what is missing."""
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise UserError(f"{file}: a JSON object is expected")
    return shape_of(config, str(file))


def shape_of(config: Mapping[str, Any], source: str) -> ModelShape:
    """Return the shape in a config's values; `source` stands in the UserError for a shape of another kind."""

    def number(key: str, default: int | None = None) -> int:
        value = config.get(key) if config.get(key) is not None else default
        if type(value) is not int or value < 1:
            what = "is missing" if value is None else f"is {value!r}"
            raise UserError(f"{source}: {key} {what}: a plan needs a config.json of Llama's form")
        return value

    for key in EXPERT_KEYS:
        if config.get(key):
            raise UserError(f"{source}: {key} is {config[key]!r}: mixtures of experts cannot be planned for")
    hidden_size, num_heads = number("hidden_size"), number("num_attention_heads")
    return ModelShape(
        hidden_size=hidden_size,
        intermediate_size=number("intermediate_size"),
        num_layers=number("num_hidden_layers"),
        num_heads=num_heads,
        num_key_value_heads=number("num_key_value_heads", num_heads),  # Llama 1 has no such key
        head_size=number("head_dim", max(1, hidden_size // num_heads)),
        vocabulary_size=number("vocab_size"),
        is_tied=bool(config.get("tie_word_embeddings", _is_gemma(config))),
    )


def _is_gemma(config: Mapping[str, Any]) -> bool:
    """Return whether what a config leaves out is Gemma's: tied embeddings, where Llama's are not."""
    return str(config.get("model_type", "")).startswith("gemma")
