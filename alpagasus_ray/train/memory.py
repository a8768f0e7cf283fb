"""How much memory a training takes on each GPU, by part. Pure arithmetic on a model's shape.

What the engines of this package keep where. Sources: S. Rajbhandari et al., ZeRO (arXiv 1910.02054, sections
3 and 5) for parameters, gradients and optimizer; V. Korthikanti et al. (arXiv 2205.05198, section 4) for
activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.deepspeed_config import deepspeed_config, is_offloaded
from alpagasus_ray.train.model_shape import ModelShape, target_names

GIB = 2**30
FP32_BYTES = 4
ADAM_BYTES = 8
"""AdamW's two moments of a parameter, in float32."""
NF4_BYTES = 4.127 / 8
"""Of a parameter in NF4 with double quantisation (arXiv 2305.14314, section 3: 0.127 bits of constants)."""
LOGITS_BYTES = 12
"""Of a logit when the loss goes backward: log-softmax, its gradient and the logit's, all in float32."""
OVERHEAD_BYTES = 1.5 * GIB
"""Assumed of the CUDA context, cuBLAS' workspace, NCCL's buffers and what the allocator cannot use."""
REDUCE_BUCKET, LIVE_PARAMETERS = 500_000_000, 1_000_000_000
"""DeepSpeed's own defaults of reduce_bucket_size and stage3_max_live_parameters, in parameters."""


@dataclass(frozen=True)
class Pass:
    """The largest forward pass of one worker."""

    tokens: int
    """Of all sequences, with padding."""
    target_tokens: int
    """Those that get logits."""


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU while it trains, by part, and what surrounds them."""

    parameters: float
    """With the copies that are made of them to compute with."""
    gradients: float
    """With the buffers that they are reduced in."""
    optimizer_state: float
    """With DeepSpeed's own float32 copy of the parameters."""
    activations: float
    logits: float
    loading: float
    """On each GPU before training: the whole model, in float32 or (DeepSpeed) as it computes; under FSDP2 its
    shards and one layer, under ZeRO-3 its shards and one matrix."""
    host: float
    """In the host's memory for each GPU: the whole model in float32 at least, while it is loaded."""

    @property
    def total(self) -> float:
        """All parts together while training, with OVERHEAD_BYTES."""
        parts = self.parameters + self.gradients + self.optimizer_state + self.activations + self.logits
        return parts + OVERHEAD_BYTES

    @property
    def peak(self) -> float:
        """The most at any time, loading or training."""
        return max(self.total, self.loading + OVERHEAD_BYTES)

    def to_dict(self) -> dict[str, float]:
        """Return the parts, total and peak in GiB."""
        parts = {**asdict(self), "overhead": OVERHEAD_BYTES, "total": self.total, "peak": self.peak}
        return {f"{name}_gib": round(value / GIB, 3) for name, value in parts.items()}


def memory_of(
    shape: ModelShape, settings: TrainSettings, largest: Pass, own: Mapping[str, Any] | None = None
) -> Memory:
    """Return the memory of a training; `own` is the user's DeepSpeed configuration.

    Raises UserError for adapters on layers that the model has not got.
    """
    trained = trained_parameters(shape, settings)
    state = _STATES[settings.strategy](shape, settings, trained, own or {})
    whole = _weight_bytes(shape, settings) + FP32_BYTES * (trained if settings.lora else 0)
    return Memory(
        parameters=state.parameters,
        gradients=state.gradients,
        optimizer_state=state.optimizer,
        activations=_activation_bytes(shape, settings, largest.tokens),
        logits=LOGITS_BYTES * shape.vocabulary_size * largest.target_tokens,
        loading=whole if state.held is None else min(whole, state.held),
        host=max(state.host, whole),
    )


def trained_parameters(shape: ModelShape, settings: TrainSettings) -> int:
    """Return how many parameters are trained: the adapters', or all."""
    if settings.lora is None:
        return shape.parameters
    return shape.adapter_parameters(settings.lora.rank, settings.lora.targets)


@dataclass(frozen=True)
class _State:
    parameters: float
    gradients: float
    optimizer: float
    host: float = 0.0
    held: float | None = None
    """What is on the GPU at the most while the model is brought there; None: the whole model in float32."""


def _weight_bytes(shape: ModelShape, settings: TrainSettings) -> float:
    """Return the bytes of the base model's weights as they are loaded."""
    linear = shape.num_layers * shape.layer_linear_parameters
    if not _is_quantized(settings):
        return FP32_BYTES * shape.parameters
    return NF4_BYTES * linear + FP32_BYTES * (shape.parameters - linear)


def _is_quantized(settings: TrainSettings) -> bool:
    return settings.lora is not None and settings.lora.quantization == "nf4"


def _compute_bytes(settings: TrainSettings) -> int:
    return 2 if settings.precision == "bf16" else FP32_BYTES


def _single(shape: ModelShape, settings: TrainSettings, trained: int, own: Mapping[str, Any]) -> _State:
    """All in float32; autocast keeps a bfloat16 copy of every matrix until the backward pass is through."""
    width = _compute_bytes(settings)
    weights = _weight_bytes(shape, settings) + FP32_BYTES * (trained if settings.lora else 0)
    copied = shape.embedding_parameters if width < FP32_BYTES else 0  # the head's
    if _is_quantized(settings):
        copied += shape.largest_linear_parameters
    elif width < FP32_BYTES:
        copied += shape.num_layers * shape.layer_linear_parameters
    return _State(weights + width * copied, FP32_BYTES * trained, ADAM_BYTES * trained)


def _fsdp(shape: ModelShape, settings: TrainSettings, trained: int, own: Mapping[str, Any]) -> _State:
    """Shards in float32; what is gathered, and the gradients until they are reduced, as it computes.

    The embeddings stay gathered through a pass, of the layers two: the one at work and the next. Without
    resharding all parameters stay gathered, and all gradients whole and in float32, until the step. Weights
    in 4 bits are not sharded: each worker has them whole, and a matrix at a time as it computes.
    """
    workers, width = settings.workers, _compute_bytes(settings)
    adapters = trained if settings.lora else 0
    root = shape.parameters - shape.num_layers * shape.layer_parameters
    reshards = settings.reshard_after_forward is not False
    packed = shape.layer_linear_parameters if _is_quantized(settings) else 0
    whole = NF4_BYTES * shape.num_layers * packed + (width * shape.largest_linear_parameters if packed else 0)
    gathered = root + (2 if reshards else shape.num_layers) * (shape.layer_parameters - packed)
    group = trained / shape.num_layers if settings.lora else max(root, shape.layer_parameters)
    sharded = FP32_BYTES * (shape.parameters - shape.num_layers * packed + adapters) / workers
    gradients, optimizer = FP32_BYTES * trained / workers, ADAM_BYTES * trained / workers
    working, reduced = width * min(gathered, shape.parameters), (width + FP32_BYTES) * group
    if not reshards:
        reduced += FP32_BYTES * trained
    layer = FP32_BYTES * max(shape.layer_parameters, shape.embedding_parameters)
    if settings.offload == "parameters":
        return _State(whole + working, reduced, 0.0, sharded + gradients + optimizer, whole + layer)
    return _State(whole + sharded + working, gradients + reduced, optimizer, held=whole + sharded + layer)


def _deepspeed(shape: ModelShape, settings: TrainSettings, trained: int, own: Mapping[str, Any]) -> _State:
    """ZeRO: weights as it computes, and a float32 copy of what is trained beside Adam's moments."""
    config = deepspeed_config(settings, own)
    zero = config["zero_optimization"]
    stage = zero["stage"]
    workers = settings.workers if stage > 0 else 1  # stage 0, in a file of one's own, shards nothing
    width = 2 if config["bf16"]["enabled"] else FP32_BYTES
    parameters = float(width) * (shape.parameters + (trained if settings.lora else 0))
    bucket = width * min(zero.get("reduce_bucket_size", REDUCE_BUCKET), trained)
    gradients: float = width * trained / (workers if stage >= 2 else 1)
    optimizer = (FP32_BYTES + ADAM_BYTES) * trained / workers
    host = live = sharding = 0.0
    if stage == 3:
        parameters /= workers
        sharding = width * max(shape.embedding_parameters, shape.largest_linear_parameters)
        live = width * min(zero.get("stage3_max_live_parameters", LIVE_PARAMETERS), shape.parameters)
        if is_offloaded(zero, "offload_param"):
            host, parameters = host + parameters, 0.0
    if is_offloaded(zero, "offload_optimizer"):
        host, optimizer = host + optimizer + FP32_BYTES * trained / workers, 0.0
        gradients = gradients if stage == 1 else 0.0
    return _State(parameters + live, gradients + bucket, optimizer, host, held=parameters + sharding)


_STATES = {"single": _single, "fsdp": _fsdp, "deepspeed": _deepspeed}


def _activation_bytes(shape: ModelShape, settings: TrainSettings, tokens: int) -> float:
    """Return what the layers keep for the backward pass.

    Korthikanti et al. count 34 bytes for each token and hidden feature of a GPT layer, and 5 * heads *
    tokens more for its attention scores. Here the same count of a Llama layer: SwiGLU's four inner tensors
    for GeLU's two, norms in float32, no dropout, and no scores, since SDPA does not store them. Checkpointed
    layers keep their input alone, and one at a time is worked out again.
    """
    width = _compute_bytes(settings)
    # Under autocast the stream between the layers is in float32; FSDP and DeepSpeed compute all in bfloat16.
    stream = FP32_BYTES if settings.strategy == "single" else width
    hidden, kv_size = shape.hidden_size, shape.num_key_value_heads * shape.head_size
    query_size = shape.num_heads * shape.head_size
    norms = 2 * hidden * (FP32_BYTES + stream)
    attention = width * (hidden + 2 * query_size + 2 * kv_size)
    mlp = width * (hidden + 4 * shape.intermediate_size)
    layer = norms + attention + mlp + _adapter_bytes(shape, settings)
    if settings.activation_checkpointing:
        return tokens * (stream * hidden * shape.num_layers + layer)
    return tokens * layer * shape.num_layers


def _adapter_bytes(shape: ModelShape, settings: TrainSettings) -> float:
    """Return the bytes per token of one layer's adapters: each keeps its dropped-out input and the mask."""
    if settings.lora is None or not settings.lora.dropout:
        return 0.0
    inputs = sum(shape.linear_sizes[name][0] for name in target_names(settings.lora.targets))
    return (_compute_bytes(settings) + 1) * inputs
