"""What runs in Serve's processes: ray.serve.llm's own classes, with the few methods changed that must be.

The classes to build on come as arguments: importing them takes vLLM, which only the wiring does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alpagasus_ray.serve.causes import last_logged_cause
from alpagasus_ray.serve.guard import refusal_body
from alpagasus_ray.serve.model_sources import local_folder

MAX_LOG_CHARACTERS = 100_000
ADAPTER_OF = ":"
"""Between a base model's id and an adapter's name, as Ray Serve wants it."""


def folder_server_class(
    server_base: Any, engine_base: Any, adapter_loader: type | None, *, on_gpu: bool
) -> type:
    """Return a server of one base model, and of the adapters that `adapter_loader` finds (None: of none).

    Made to start in half the processes:

    As it comes, a model on CPUs is four processes, each of which spends 12 to 15 s of CPU time on
    importing vLLM, and a telemetry actor that stays behind: with three models on two cores, minutes.
    Where the engine's override no longer fits a later Ray, start-up gets slower and nothing else changes.
    """

    class OneProcessEngine(engine_base):  # type: ignore[misc]
        def _start_async_llm_engine(self, arguments: Any, config: Any, *rest: Any) -> Any:
            if config.parallel_config.world_size == 1:
                # The lone worker shares the engine's process; Ray asks for one of its own in any case.
                config.parallel_config.distributed_executor_backend = "uni"
            return super()._start_async_llm_engine(arguments, config, *rest)

    class FolderServer(server_base):  # type: ignore[misc]
        async def __init__(self, llm_config: Any, **options: Any) -> None:  # type: ignore[misc]
            # There is nothing to download: a task that would look for it imports vLLM first.
            llm_config.get_or_create_callback().ctx.run_init_node = False
            engine_class = engine_base if on_gpu else OneProcessEngine
            source = llm_config.model_loading_config.model_source
            engine_config = llm_config.get_engine_config()
            engine_config.hf_model_id = await asyncio.to_thread(local_folder, source)
            engine_config.mirror_config = None
            if adapter_loader is not None:
                options["model_downloader"] = adapter_loader
            await super().__init__(llm_config, engine_cls=engine_class, **options)

        async def start(self) -> None:
            # Not super().start(), which goes on to start the telemetry actor and waits for it.
            self.engine = self._engine_cls(self._llm_config)
            try:
                await self.engine.start()
            except RuntimeError as error:
                raise RuntimeError(last_logged_cause(_own_output()) or str(error)) from error

    return FolderServer


def adapter_loader_class(config_class: Any, adapters: Mapping[str, str]) -> type:
    """Return what finds an adapter's files (by name: a folder or an address) when it is first asked for.

    Ray's own looks below one address in an object store, for adapters whose names begin with the base's.
    """
    numbers = {name: number for number, name in enumerate(adapters, start=1)}

    class AdapterLoader:
        def __init__(self, **options: Any) -> None:
            """Take Ray's options, which are about its own downloads."""

        async def load_model_from_config(self, lora_model_id: str, llm_config: Any) -> Any:
            name = lora_model_id.partition(ADAPTER_OF)[2]
            folder = await asyncio.to_thread(local_folder, adapters[name])
            return config_class(
                model_id=name, max_total_tokens=None, local_path=folder, lora_assigned_int_id=numbers[name]
            )

    return AdapterLoader


def ingress_class(ingress_base: Any, model_list_class: Any, max_answer_tokens: int | None) -> type:
    """Return the class that reads requests.

    A model that is not served, and an answer longer than `max_answer_tokens` (None: any length), are refused
    in OpenAI's format. Adapters are asked for by their own names, like any model.
    """

    class ModelIngress(ingress_base):  # type: ignore[misc]
        def __init__(self, *, engine_of: Mapping[str, str], **options: Any) -> None:
            super().__init__(**options)
            self._engine_of = dict(engine_of)

        async def _get_model_id(self, model: str | None) -> str:
            from fastapi import HTTPException

            try:
                return id_in_serve(model, self._engine_of)
            except NoSuchModelError as error:
                raise HTTPException(error.status, str(error)) from error

        async def model(self, model_id: str) -> Any:
            if model_id not in self._engine_of:
                return None
            card = self._model_cards[self._engine_of[model_id]]
            return card.model_copy(update={"id": model_id})

        async def models(self) -> Any:
            return model_list_class(data=[await self.model(name) for name in self._engine_of])

        async def _process_llm_request(self, body: Any, *rest: Any, **options: Any) -> Any:
            from fastapi import HTTPException
            from starlette.responses import JSONResponse

            try:
                await self._get_model_id(body.model)
            except HTTPException as error:
                # FastAPI would write {"detail": ...}, which OpenAI's clients do not read.
                code = "model_not_found" if error.status_code == 404 else "invalid_model"
                refusal = refusal_body(error.status_code, code, error.detail, "model")
                return JSONResponse(refusal, error.status_code)
            if max_answer_tokens is not None and not limit_answer(body, max_answer_tokens):
                said = f"This endpoint's answers have {max_answer_tokens} tokens at most."
                return JSONResponse(refusal_body(400, "too_many_tokens", said, "max_tokens"), 400)
            return await super()._process_llm_request(body, *rest, **options)

    return ModelIngress


class NoSuchModelError(Exception):
    """A request names a model that is not served, or none where there are several."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def id_in_serve(model: str | None, engine_of: Mapping[str, str]) -> str:
    """Return what Ray Serve calls the model that a request names. None: the only one.

    >>> id_in_serve("poet", {"plain": "plain", "poet": "plain"})
    'plain:poet'
    """
    names = list(engine_of)
    if model is None and len(names) > 1:
        raise NoSuchModelError(400, f"Say which model: {', '.join(names)}.")
    model = names[0] if model is None else model
    if model not in engine_of:
        raise NoSuchModelError(404, f'There is no model "{model}" here: {", ".join(names)}.')
    engine = engine_of[model]
    # What Serve takes apart: it sends an adapter's requests to the replicas that have loaded it.
    return model if model == engine else f"{engine}{ADAPTER_OF}{model}"


def limit_answer(body: Any, max_tokens: int) -> bool:
    """Return whether a request (vLLM's) asks for no longer an answer; where it names no length, set that."""
    asked = [getattr(body, name, None) for name in ("max_tokens", "max_completion_tokens")]
    named = [tokens for tokens in asked if tokens is not None]
    if not named:
        body.max_tokens = max_tokens
    return all(tokens <= max_tokens for tokens in named)


def _own_output() -> str:
    """Return the end of what this replica and its engine have printed.

    vLLM says in the exception only that the engine failed, and the reason in its log.
    """
    try:
        return Path("/proc/self/fd/1").read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARACTERS:]
    except OSError:
        return ""
