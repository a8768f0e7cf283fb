"""The application that Ray Serve runs: a deployment for each model, and the ingress before them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray

from alpagasus_ray.causes import cause_in_one_line
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_files import require_key
from alpagasus_ray.serve.bodies import JsonBodies
from alpagasus_ray.serve.deployments import adapter_loader_class, folder_server_class
from alpagasus_ray.serve.engine_settings import ingress_config, llm_config, uses_gpus
from alpagasus_ray.serve.engines import Engine, checked_engines
from alpagasus_ray.serve.guard import Admission, Guard
from alpagasus_ray.serve.ingress import ingress_class
from alpagasus_ray.serve.listening import Listening
from alpagasus_ray.serve.refusals import ErrorWords, answer_exception
from alpagasus_ray.serve.serve_config import read_arguments
from alpagasus_ray.serve.windows import engine_window

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings


def application_from_config(args: dict[str, Any]) -> Any:
    """Return the application that a file of `alpagasus serve --write-config` describes.

    `args` are the application's own in that file. Serve calls this in a task on the cluster: the key is in
    the environment of whichever node that is, and folders are read there.

    Raises UserError, whose text stands in the application's status then, where others could reach the
    endpoint without a key, the key's variable is not set, or a folder cannot be served.
    """
    models, settings = read_arguments(args)
    settings = settings.model_copy(update={"host": _listening_host()})
    engines = checked_engines(models, settings)
    try:
        key = require_key(settings.api_key_env)
    except UserError as error:
        raise UserError(f"{error}, for every node before Ray starts there") from error
    on_gpu = uses_gpus(settings, ray.cluster_resources())
    return build_application(engines, settings, Admission.of(settings, key), on_gpu=on_gpu)


def _listening_host() -> str:
    """Return where Serve listens: a Serve that ran before the file came keeps its own address."""
    from ray.serve.context import _get_global_client

    return _get_global_client().http_config.host or ""


def build_application(
    engines: Sequence[Engine],
    settings: ServeSettings,
    admission: Admission,
    *,
    on_gpu: bool,
    own_port: int | None = None,
) -> Any:
    """Return a Serve application that answers for all engines' models as OpenAI would, behind a guard.

    With a port of its own it listens there itself, on the head node, and Serve needs no proxy.

    ray.serve.llm's own build_openai_app takes no application to put a guard around; this is what it does
    besides.
    """
    with _no_garbage_collection():
        # Imports vLLM and torch: 10 s and more, which only who serves should pay.
        from ray import serve
        from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
        from ray.llm._internal.serve.core.configs.openai_api_models import to_model_metadata
        from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
        from ray.serve.llm import LLMConfig, build_llm_deployment
        from ray.serve.llm.deployment import LLMServer
        from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress

    configs = []
    for index, engine in enumerate(engines):
        adapters = {model.name: model.folder for model in engine.adapters}
        loader = adapter_loader_class(DiskMultiplexConfig, adapters) if adapters else None
        server_class = folder_server_class(LLMServer, VLLMEngine, loader, on_gpu=on_gpu)
        fields = llm_config(engine, index, settings, on_gpu=on_gpu, server_class=server_class)
        configs.append(LLMConfig(**fields))
    wait_s = settings.replica_wait_s if settings.num_replicas else None
    ingress_of_ours = ingress_class(OpenAiIngress, settings.max_answer_tokens, wait_s)
    ingress = make_fastapi_ingress(ingress_of_ours, app=_guarded_app(settings.host, admission, own_port))
    return serve.deployment(ingress, **ingress_config(listens=own_port is not None)).bind(
        llm_deployments=_built(build_llm_deployment, configs),
        model_cards={config.model_id: to_model_metadata(config.model_id, config) for config in configs},
        engine_of={model.name: engine.model_id for engine in engines for model in engine.models},
        windows={
            model.name: window
            for engine in engines
            for window in [engine_window(engine.folder, settings).tokens]
            for model in engine.models
        },
    )


def _guarded_app(host: str, admission: Admission, own_port: int | None) -> Any:
    """Return the FastAPI application, without routes, that stands before the ingress.

    Not Ray's own: it tells clients tracebacks, and lets any web page read what it answers.
    """
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from ray.llm._internal.serve.core.ingress.middleware import SetRequestIdMiddleware
    from ray.llm._internal.serve.observability.metrics.fast_api_metrics import (
        add_http_metrics_middleware,
        metrics_lifespan,
    )
    from starlette.exceptions import HTTPException

    lifespan = metrics_lifespan if own_port is None else Listening(metrics_lifespan, host, own_port)
    app = FastAPI(lifespan=lifespan)
    for kind in (RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer_exception)
    # The last that is added is the first that is asked.
    app.add_middleware(ErrorWords)
    add_http_metrics_middleware(app)
    app.add_middleware(SetRequestIdMiddleware)
    app.add_middleware(JsonBodies)
    app.add_middleware(Guard, admission=admission)
    return app


def _built(build: Callable[[Any], Any], configs: Sequence[Any]) -> dict[str, Any]:
    """Return the deployments; raises UserError where vLLM does not know an argument of the recipe's."""
    try:
        return {config.model_id: build(config) for config in configs}
    except ValueError as error:
        raise UserError(f"serve.engine cannot be used: {cause_in_one_line(str(error))}") from error


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For imports: they make objects by the million that all stay, and looking through them takes 2 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
