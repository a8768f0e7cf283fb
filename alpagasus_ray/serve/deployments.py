"""What runs in Serve's processes: ray.serve.llm's own classes, with the few methods changed that must be.

The classes to build on come as arguments: importing them takes vLLM, which only the wiring does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from alpagasus_ray.causes import cause_in_one_line, last_logged_cause
from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import local_folder
from alpagasus_ray.serve.ingress import ADAPTER_OF
from alpagasus_ray.serve.refusals import Refusal

MAX_LOG_CHARACTERS = 100_000
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


def _own_output() -> str:
    """Return the end of what this replica and its engine have printed.

    vLLM says in the exception only that the engine failed, and the reason in its log.
    """
    try:
        return Path("/proc/self/fd/1").read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARACTERS:]
    except OSError:
        return ""
