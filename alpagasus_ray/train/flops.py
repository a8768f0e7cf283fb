"""The arithmetic that training a model takes, and the share of a GPU's peak that it got. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.memory import trained_parameters
from alpagasus_ray.train.model_shape import ModelShape


@dataclass(frozen=True)
class TokenFlops:
    """Operations that one token takes, forward and backward."""

    weights: int
    attention: int
    """For each token of its sequence."""

    def of(self, tokens: int, attended_tokens: int) -> float:
        """Return the operations of so many tokens.

        `attended_tokens` is the sum over the tokens of the length of their sequence.
        """
        return float(self.weights * tokens + self.attention * attended_tokens)


def token_flops(shape: ModelShape, settings: TrainSettings, recomputed: bool = False) -> TokenFlops:
    """Return what a token of a training takes; `recomputed` counts checkpointed layers twice forward.

    2 for each parameter and token forward and 4 backward (Kaplan et al., arXiv 2001.08361, section 2.1),
    2 more where layers are worked out again, 2 less for weights that are frozen; and for attention 12 for
    each layer, feature and token of the sequence (PaLM, arXiv 2204.02311, appendix B), 4 of them forward.
    Raises UserError for adapters on layers that the shape has not got.
    """
    again = 2 if recomputed and settings.activation_checkpointing else 0
    weights = (6 + again) * shape.multiplied_parameters
    if settings.lora is not None:
        weights = (4 + again) * shape.multiplied_parameters
        weights += (6 + again) * trained_parameters(shape, settings)
    attention = (12 + 2 * again) * shape.num_layers * shape.num_heads * shape.head_size
    return TokenFlops(weights, attention)
