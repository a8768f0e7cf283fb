"""What runs in Serve's processes: ray.serve.llm's own classes, with the few methods changed that must be.

The classes to build on come as arguments: importing them takes vLLM, which only the wiring does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import local_folder
from alpagasus_ray.serve.causes import cause_in_one_line, last_logged_cause
from alpagasus_ray.serve.refusals import RETRY_AFTER_S, Refusal

MAX_LOG_CHARACTERS = 100_000
ADAPTER_OF = ":"
"""Between a base model's id and an adapter's name, as Ray Serve wants it."""
LOOK_AGAIN_S = 0.5
WATCH_S = 0.5
AT_ONCE = 2
"""Outputs of a stream, all its answers together, that nothing is waited for with: a chat's first says only
who speaks."""


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
            self._watch = asyncio.ensure_future(end_with_engine(self.engine.check_health))

        async def _maybe_resolve_lora_from_multiplex(self) -> None:
            try:
                await super()._maybe_resolve_lora_from_multiplex()
            except (ValueError, UserError) as error:
                said = cause_in_one_line(str(error))
                raise Refusal(500, f"This adapter cannot be loaded: {said}", "adapter_unusable") from error

        def _batch_output_stream(self, generator: AsyncIterator[Any]) -> AsyncIterator[list[Any]]:
            return first_at_once(generator, super()._batch_output_stream)

    return FolderServer


async def first_at_once(
    outputs: AsyncIterator[Any], gathered: Callable[[AsyncIterator[Any]], AsyncIterator[list[Any]]]
) -> AsyncIterator[list[Any]]:
    """Yield a stream's first outputs one by one as they come, and then what `gathered` makes of the others.

    Ray gathers for 50 ms, the first output too: that is most of the time to the first token.
    """
    for _ in range(AT_ONCE):
        async for output in outputs:
            yield [output]
            break
    async for batch in gathered(outputs):
        yield batch


async def end_with_engine(check_health: Callable[[], Awaitable[None]]) -> None:
    """End this process once its engine is dead; `check_health` raises then.

    Serve's own check takes three tries of its controller, and until then it hands on requests to a replica
    that cannot answer. A process that is gone is seen by the first request, and replaced at once.
    """
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            await check_health()
        except Exception:
            await asyncio.sleep(WATCH_S)  # requests under way are told by the engine itself
            os._exit(1)


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


def ingress_class(
    ingress_base: Any, model_list_class: Any, max_answer_tokens: int | None, replica_wait_s: float | None
) -> type:
    """Return the class that reads requests.

    A model that is not served, and more tokens than `max_answer_tokens` (None: as many as one likes), are
    refused. Adapters are asked for by their own names, like any model. A request for which no replica is left
    is refused after `replica_wait_s` (None: it waits, and a replica starts for it).
    """

    class ModelIngress(ingress_base):  # type: ignore[misc]
        def __init__(self, *, engine_of: Mapping[str, str], **options: Any) -> None:
            super().__init__(**options)
            self._engine_of = dict(engine_of)

        async def _get_model_id(self, model: str | None) -> str:
            return id_in_serve(model, self._engine_of)

        async def model(self, model_id: str) -> Any:
            if model_id not in self._engine_of:
                return None
            card = self._model_cards[self._engine_of[model_id]]
            return card.model_copy(update={"id": model_id})

        async def models(self) -> Any:
            return model_list_class(data=[await self.model(name) for name in self._engine_of])

        async def model_data(self, model: str) -> Any:
            id_in_serve(model, self._engine_of)
            return await self.model(model)

        async def _process_llm_request(self, body: Any, *rest: Any, **options: Any) -> Any:
            id = id_in_serve(body.model, self._engine_of)
            if max_answer_tokens is not None:
                limit_answers(body, max_answer_tokens)
            answer = super()._process_llm_request(body, *rest, **options)
            if replica_wait_s is None:
                return await answer
            handle = self._get_configured_serve_handle(id)
            return await unless_lost(answer, lambda: num_replicas(handle) == 0, replica_wait_s)

    return ModelIngress


async def unless_lost(answer: Awaitable[Any], is_lost: Callable[[], bool], patience_s: float) -> Any:
    """Return an answer; raises Refusal (503) once nobody has been there to give it for so many seconds."""
    task = asyncio.ensure_future(answer)
    lost_since_s: float | None = None
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=min(LOOK_AGAIN_S, patience_s))
            now_s = time.monotonic()
            lost_since_s = (lost_since_s or now_s) if is_lost() else None
            if not task.done() and lost_since_s is not None and now_s - lost_since_s >= patience_s:
                wait_s = RETRY_AFTER_S[503]
                raise Refusal(503, f"This model is being started again: try again in {wait_s} s.")
        return task.result()
    finally:
        task.cancel()  # nothing where it has ended


def num_replicas(handle: Any) -> int | None:
    """Return how many replicas Serve's router would choose from; None where it has not looked yet.

    A handle's own `running_replicas_populated` stays true once there has been one.
    """
    router = getattr(getattr(handle, "_router", None), "_asyncio_router", None)
    replicas = getattr(getattr(router, "request_router", None), "curr_replicas", None)
    return None if replicas is None else len(replicas)


def id_in_serve(model: str | None, engine_of: Mapping[str, str]) -> str:
    """Return what Ray Serve calls the model that a request names. None: the only one.

    >>> id_in_serve("poet", {"plain": "plain", "poet": "plain"})
    'plain:poet'
    """
    names = list(engine_of)
    if model is None and len(names) > 1:
        raise Refusal(400, f"Say which model: {', '.join(names)}.", "invalid_model", "model")
    model = names[0] if model is None else model
    if model not in engine_of:
        said = f'There is no model "{model}" here: {", ".join(names)}.'
        raise Refusal(404, said, "model_not_found", "model")
    engine = engine_of[model]
    # What Serve takes apart: it sends an adapter's requests to the replicas that have loaded it.
    return model if model == engine else f"{engine}{ADAPTER_OF}{model}"


def limit_answers(body: Any, max_tokens: int) -> None:
    """Raise Refusal where a request (vLLM's) asks for more tokens, all of its answers together.

    Where it names no length, a single answer is vLLM's to fit into the limit and into what the prompt leaves
    of the context; several share the limit.
    """
    num_answers = _num_prompts(body) * max(1, getattr(body, "n", None) or 1)
    asked = [getattr(body, name, None) for name in ("max_tokens", "max_completion_tokens")]
    named = [tokens for tokens in asked if tokens is not None]
    if num_answers * max(named, default=1) > max_tokens:
        several = f", all {num_answers:,} answers of a request together" if num_answers > 1 else ""
        said = f"This endpoint's answers have {max_tokens:,} tokens at most{several}."
        raise Refusal(400, said, "too_many_tokens", "max_tokens")
    if not named and num_answers > 1:
        body.max_tokens = max_tokens // num_answers


def _num_prompts(body: Any) -> int:
    """Return how many prompts there are: texts or lists of tokens; a chat is one."""
    num = 0
    for name in ("prompt", "prompt_embeds"):
        value = getattr(body, name, None)
        if isinstance(value, list) and value and not isinstance(value[0], int):
            num += len(value)
        else:
            num += value is not None
    return max(1, num)


def _own_output() -> str:
    """Return the end of what this replica and its engine have printed.

    vLLM says in the exception only that the engine failed, and the reason in its log.
    """
    try:
        return Path("/proc/self/fd/1").read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARACTERS:]
    except OSError:
        return ""
