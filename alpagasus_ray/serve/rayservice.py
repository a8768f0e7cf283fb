"""A KubeRay RayService around the endpoint's configuration: a head, a worker pod a replica. No Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.serve.engine_settings import APPLICATION, BYTES_PER_GIB, INGRESS_CPUS, workers_per_replica
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import weight_bytes
from alpagasus_ray.serve.ports import is_loopback

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

SECRET = "alpagasus-api-key"
"""The Kubernetes Secret with the endpoint's key, which stands in it under its environment variable's name."""
GPU = "nvidia.com/gpu"
HEAD_CPUS, HEAD_GIB = 2, 8
"""Of KubeRay's own sample for vLLM (ray-operator/config/samples/vllm/ray-service.vllm.yaml)."""
CPUS_PER_GPU = 4
"""Of the same sample: 8 CPUs beside 2 GPUs."""
PROCESSES_GIB = 8
"""Of memory, beside weights and key-value cache: Ray, a replica, its engine and the ingress, which all load
vLLM and torch."""


def settings_on_kubernetes(settings: ServeSettings) -> ServeSettings:
    """Return the settings as a RayService needs them.

    Other pods have to reach the endpoint, and GPU workers may come up after the application is built.
    """
    host = "0.0.0.0" if is_loopback(settings.host) else settings.host
    accelerator = "gpu" if settings.accelerator == "auto" else settings.accelerator
    return settings.model_copy(update={"host": host, "accelerator": accelerator})


def rayservice(
    serve_config: str, image: str, engines: Sequence[Engine], settings: ServeSettings
) -> dict[str, Any]:
    """Return the manifest (ray.io/v1) of a RayService that serves a configuration, given as YAML.

    A worker pod holds one replica of one model. Nothing but the endpoint's own processes runs on the head.
    Raises UserError when the image has no name.
    """
    if not image.strip():
        raise UserError("--rayservice: name the container image, such as registry.example.org/alpagasus:1")
    head_ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "serve": settings.port}
    head = _container("ray-head", image, {"cpu": str(HEAD_CPUS), "memory": f"{HEAD_GIB}Gi"}, settings)
    worker = _container("ray-worker", image, _worker_resources(engines, settings), settings)
    worker_pod: dict[str, Any] = {"containers": [{**worker, "ports": _ports({"serve": settings.port})}]}
    if settings.accelerator != "cpu":
        worker_pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": APPLICATION},
        "spec": {
            "serveConfigV2": serve_config,
            "rayClusterConfig": {
                "rayVersion": version("ray"),
                # The operator makes the token: without it, whoever reaches the head runs code there.
                "authOptions": {"mode": "token"},
                **({"enableInTreeAutoscaling": True} if settings.max_replicas else {}),
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": {"spec": {"containers": [{**head, "ports": _ports(head_ports)}]}},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "models",
                        "replicas": len(engines) * max(1, settings.num_replicas),
                        "minReplicas": len(engines) * settings.num_replicas,
                        "maxReplicas": len(engines) * (settings.max_replicas or settings.num_replicas),
                        "rayStartParams": {},
                        "template": {"spec": worker_pod},
                    }
                ],
            },
        },
    }


def _container(
    name: str, image: str, resources: Mapping[str, str], settings: ServeSettings
) -> dict[str, Any]:
    container = {
        "name": name,
        "image": image,
        # KubeRay tells Ray what a node has by its limits; as requests, they are what the pod surely gets.
        "resources": {"limits": dict(resources), "requests": dict(resources)},
    }
    if settings.api_key_env is None:
        return container
    # On all nodes: Serve builds the application on any of them.
    key = {"secretKeyRef": {"name": SECRET, "key": settings.api_key_env}}
    return {**container, "env": [{"name": settings.api_key_env, "valueFrom": key}]}


def _worker_resources(engines: Sequence[Engine], settings: ServeSettings) -> dict[str, str]:
    weights_gib = max(weight_bytes(engine.folder) for engine in engines) / BYTES_PER_GIB
    num_workers = workers_per_replica(settings)
    if settings.accelerator != "cpu":
        memory = f"{math.ceil(PROCESSES_GIB + weights_gib)}Gi"
        return {"cpu": str(CPUS_PER_GPU * num_workers), "memory": memory, GPU: str(num_workers)}
    gib = PROCESSES_GIB + weights_gib + settings.kv_cache_gib * num_workers
    cpus = math.ceil(settings.cpus_per_replica * num_workers + INGRESS_CPUS)
    return {"cpu": str(cpus), "memory": f"{math.ceil(gib)}Gi"}


def _ports(ports: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": number} for name, number in ports.items()]
