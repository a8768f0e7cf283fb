"""From the recipe's section to the settings of ray.serve.llm, one model at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import absolute, read_config
from alpagasus_ray.serve.windows import engine_window

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

APPLICATION = "alpagasus"
"""What Serve calls the endpoint."""
BYTES_PER_GIB = 2**30
INGRESS_CPUS = 0.1
HEAD_NODE = "node:__internal_head__"
"""A resource that Ray gives to this node alone."""
REPLICA_STOPS_WITHIN_S = 2.0
HEALTH_CHECK_PERIOD_S = 1.0
"""Serve gives a replica up after three bad answers in a row (serve/_private/constants.py), else 30 s."""
MAX_ADAPTERS_IN_BATCH = 8
ANSWERS_AT_ONCE = 256
"""On a CPU. vLLM's own 128 for servers there is half of what its offline engine has, and makes 0.9 of the
tokens a second (benchmarks/generation.py)."""
KERNELS_KEPT = 128
"""On a CPU. oneDNN makes one for each number of tokens in a batch and each shape of weights, and keeps 1,024:
an engine's memory grows by 0.8 GiB until it has as many (LLM.generate, 20,000 prompts; as fast with 32)."""
PREFIX_AWARE_ROUTER = "ray.serve.llm.request_router.PrefixCacheAffinityRouter"
UNLIMITED = 1_000_000
"""Requests that Serve hands to the ingress at once: the guard in it refuses what is too much, at once."""

QUIET_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The folder has everything: no look at a hub that may be out of reach and is waited for.
    "HF_HUB_OFFLINE": "1",
}


def llm_config(
    engine: Engine, index: int, settings: ServeSettings, *, on_gpu: bool, server_class: type
) -> dict[str, Any]:
    """Return the fields of the engine's ray.serve.llm.LLMConfig; the index keeps deployment names apart."""
    return {
        "model_loading_config": {"model_id": engine.model_id, "model_source": absolute(engine.folder)},
        "lora_config": {"max_num_adapters_per_replica": len(engine.adapters)} if engine.adapters else None,
        "server_cls": server_class,
        "accelerator_config": {"kind": "gpu" if on_gpu else "cpu"},
        "placement_group_config": {"bundle_per_worker": worker_bundle(settings, on_gpu=on_gpu)},
        "engine_kwargs": engine_arguments(engine, settings, on_gpu=on_gpu),
        "runtime_env": {"env_vars": engine_environment(settings, on_gpu=on_gpu)},
        "deployment_config": {
            "name": deployment_name(engine.model_id, index),
            **_replicas(settings),
            "ray_actor_options": {"num_cpus": 0},
            # A folder that does not load once does not load the second time either, 40 s later.
            "max_constructor_retry_count": 1,
            "health_check_period_s": HEALTH_CHECK_PERIOD_S,
            "graceful_shutdown_wait_loop_s": 0.2,
            "graceful_shutdown_timeout_s": REPLICA_STOPS_WITHIN_S,
        },
    }


def _replicas(settings: ServeSettings) -> dict[str, Any]:
    """Return how many there are of a model, and which of them is asked."""
    options: dict[str, Any] = {}
    if settings.prefix_aware:
        options["request_router_config"] = {"request_router_class": PREFIX_AWARE_ROUTER}
    if settings.max_replicas is None:
        return options | {"num_replicas": settings.num_replicas}
    return options | {
        "autoscaling_config": {
            "min_replicas": settings.num_replicas,
            "max_replicas": settings.max_replicas,
            # The endpoint is up when every model has answered: there is one of each to begin with.
            "initial_replicas": max(1, settings.num_replicas),
            "target_ongoing_requests": settings.requests_per_replica,
            "downscale_delay_s": settings.idle_s,
        }
    }


def ingress_config(*, listens: bool) -> dict[str, Any]:
    """Return the deployment options of the process that reads requests and hands them to the models.

    Where it listens itself it is on the head node, which may have no CPUs to give.
    """
    place = {"num_cpus": 0, "resources": {HEAD_NODE: 0.001}} if listens else {"num_cpus": INGRESS_CPUS}
    return {
        "num_replicas": 1,
        "max_ongoing_requests": UNLIMITED,
        "ray_actor_options": place,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": REPLICA_STOPS_WITHIN_S,
    }


def deployment_name(model_name: str, index: int) -> str:
    """Return the name that Serve shows.

    Serve's own rule writes "a.b" and "a_b" alike.

    >>> deployment_name("random-9.2k", 2)
    'random-9_2k-2'
    """
    return f"{model_name.replace('.', '_').replace('/', '--')}-{index}"


def engine_arguments(engine: Engine, settings: ServeSettings, *, on_gpu: bool) -> dict[str, Any]:
    """Return vLLM's arguments for an engine's models; the recipe's own `engine` has the last word."""
    config = read_config(engine.folder)
    arguments: dict[str, Any] = {"dtype": settings.dtype}
    if settings.max_model_length_tokens is not None:
        arguments["max_model_len"] = engine_window(engine.folder, settings).tokens
    if not on_gpu:
        # Compiling takes longer than a test set's answers; the cache would else take most of the memory.
        arguments["enforce_eager"] = True
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * BYTES_PER_GIB)
        # vLLM refuses more answers in a step than tokens.
        most = ANSWERS_AT_ONCE * workers_per_replica(settings)
        arguments["max_num_seqs"] = min(most, settings.engine.get("max_num_batched_tokens") or most)
        if settings.dtype == "auto" and (config.get("dtype") or config.get("torch_dtype")) == "float32":
            # vLLM's "auto" makes bfloat16 of it: no faster on most CPUs, and other answers than in training.
            arguments["dtype"] = "float32"
    return arguments | _adapter_arguments(engine) | settings.engine | _answer_arguments(settings)


def without_server_arguments(settings: ServeSettings) -> ServeSettings:
    """Return settings for an engine that no server is before: without, say, how tool calls are parsed.

    Ray Serve LLM takes a server's arguments among the engine's. Raises UserError where vLLM knows no argument
    of a name that the recipe gives; imports vLLM for that.
    """
    if not settings.engine:
        return settings
    from vllm import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import FrontendArgs

    of_engine, of_server = ({one.name for one in fields(kind)} for kind in (AsyncEngineArgs, FrontendArgs))
    for name in settings.engine:
        if name not in of_engine | of_server:
            hint = nearest(name, of_engine | of_server)
            hint = "" if "Known:" in hint else hint  # hundreds
            raise UserError(f"serve.engine: vLLM has no engine argument {name}.{hint}")
    own = {name: value for name, value in settings.engine.items() if name in of_engine}
    return settings.model_copy(update={"engine": own})


def _answer_arguments(settings: ServeSettings) -> dict[str, Any]:
    """Return what has vLLM end an answer at the endpoint's limit, or where the context is full."""
    limit = settings.max_answer_tokens
    if limit is None:
        return {}
    own = dict(settings.engine.get("override_generation_config") or {})
    return {
        "override_generation_config": {**own, "max_new_tokens": min(limit, own.get("max_new_tokens", limit))}
    }


def _adapter_arguments(engine: Engine) -> dict[str, Any]:
    if not engine.adapters:
        return {}
    arguments = {
        "enable_lora": True,
        "max_lora_rank": engine.vllm_rank,
        # Of one batch: a request for another adapter waits for a place, and memory is set aside for each.
        "max_loras": min(len(engine.adapters), MAX_ADAPTERS_IN_BATCH),
        "max_cpu_loras": len(engine.adapters),
    }
    return arguments | ({"chat_template": engine.chat_template} if engine.chat_template else {})


def engine_environment(settings: ServeSettings, *, on_gpu: bool) -> dict[str, str]:
    """Return the environment variables of a model's processes."""
    environment = QUIET_ENVIRONMENT | _short_sockets()
    if on_gpu:
        return environment
    environment |= {
        # vLLM would bind every model's threads to the same cores, and leave one core to none of them.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, int(settings.cpus_per_replica))),
    }
    own = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(KERNELS_KEPT)}
    if settings.engine.get("enforce_eager", True):
        # vLLM compiles what draws tokens even so, at the first request that does not ask for temperature 0:
        # all requests wait for seconds, and without a C++ compiler the engine dies.
        own["TORCHDYNAMO_DISABLE"] = "1"
    return environment | {name: os.environ.get(name, value) for name, value in own.items()}


def _short_sockets() -> dict[str, str]:
    """Return where vLLM's processes put their sockets, where they have no room in the temporary folder.

    A socket's whole path has 107 bytes at most, of which the name takes 37.
    """
    if "VLLM_RPC_BASE_PATH" in os.environ or len(tempfile.gettempdir()) + 37 <= 107:
        return {}
    return {"VLLM_RPC_BASE_PATH": "/tmp"}


def worker_bundle(settings: ServeSettings, *, on_gpu: bool) -> dict[str, float]:
    """Return what Ray sets aside for each of an engine's workers."""
    return {"GPU": 1.0} if on_gpu else {"CPU": settings.cpus_per_replica}


def uses_gpus(settings: ServeSettings, resources: Mapping[str, float]) -> bool:
    """Return whether the models run on GPUs, in a cluster that has these resources now."""
    if settings.accelerator == "auto":
        return resources.get("GPU", 0.0) > 0
    return settings.accelerator == "gpu"


def workers_per_replica(settings: ServeSettings) -> int:
    """Return how many workers vLLM spreads one copy of a model over."""
    tensor, pipeline = (settings.engine.get(f"{axis}_parallel_size", 1) for axis in ("tensor", "pipeline"))
    return int(tensor) * int(pipeline)


def needed_resources(num_engines: int, settings: ServeSettings, *, on_gpu: bool) -> dict[str, float]:
    """Return what Ray sets aside for the models, one kind of it: CPUs or GPUs."""
    ((kind, amount),) = worker_bundle(settings, on_gpu=on_gpu).items()
    workers = num_engines * max(1, settings.num_replicas) * workers_per_replica(settings)
    return {kind: workers * amount + (0 if on_gpu else INGRESS_CPUS)}


def shortage(
    num_engines: int, settings: ServeSettings, resources: Mapping[str, float], *, on_gpu: bool
) -> str | None:
    """Return in words what the models need beyond what the cluster has now, or None when it is enough.

    An example: "3 models need 3 GPU, the cluster has 2".
    """
    ((kind, needed),) = needed_resources(num_engines, settings, on_gpu=on_gpu).items()
    if needed <= resources.get(kind, 0.0):
        return None
    models = "1 model needs" if num_engines == 1 else f"{num_engines} models need"
    return f"{models} {needed:g} {kind}, the cluster has {resources.get(kind, 0.0):g}"
