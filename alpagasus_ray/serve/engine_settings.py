"""From the recipe's section to the settings of ray.serve.llm, one model at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.serve.model_folder import ServedModel, read_config

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

BYTES_PER_GIB = 2**30
INGRESS_CPUS = 0.1
REPLICA_STOPS_WITHIN_S = 2.0

QUIET_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # The folder has everything: no look at a hub that may be out of reach and is waited for.
    "HF_HUB_OFFLINE": "1",
}


def llm_config(
    model: ServedModel, index: int, settings: ServeSettings, *, on_gpu: bool, server_class: type
) -> dict[str, Any]:
    """Return the fields of the model's ray.serve.llm.LLMConfig; the index keeps deployment names apart."""
    return {
        "model_loading_config": {"model_id": model.name, "model_source": model.folder},
        "server_cls": server_class,
        "accelerator_config": {"kind": "gpu" if on_gpu else "cpu"},
        "placement_group_config": {"bundle_per_worker": worker_bundle(settings, on_gpu=on_gpu)},
        "engine_kwargs": engine_arguments(model.folder, settings, on_gpu=on_gpu),
        "runtime_env": {"env_vars": engine_environment(settings, on_gpu=on_gpu)},
        "deployment_config": {
            "name": deployment_name(model.name, index),
            "num_replicas": settings.num_replicas,
            "ray_actor_options": {"num_cpus": 0},
            # A folder that does not load once does not load the second time either, 40 s later.
            "max_constructor_retry_count": 1,
            "graceful_shutdown_wait_loop_s": 0.2,
            "graceful_shutdown_timeout_s": REPLICA_STOPS_WITHIN_S,
        },
    }


def ingress_config(num_models: int) -> dict[str, Any]:
    """Return the deployment options of the process that speaks HTTP and hands requests to the models."""
    del num_models
    return {
        "num_replicas": 1,
        "ray_actor_options": {"num_cpus": INGRESS_CPUS},
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
