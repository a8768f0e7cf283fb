"""What runs in Serve's processes: ray.serve.llm's own classes, with the few methods changed that must be.

The classes to build on come as arguments: importing them takes vLLM, which only the wiring does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpagasus_ray.serve.causes import last_logged_cause

MAX_LOG_CHARACTERS = 100_000


def folder_server_class(server_base: Any, engine_base: Any, *, on_gpu: bool) -> type:
    """Return a server of one model whose weights are local files, made to start in half the processes.

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
            await super().__init__(llm_config, engine_cls=engine_class, **options)

        async def start(self) -> None:
            # Not super().start(), which goes on to start the telemetry actor and waits for it.
            self.engine = self._engine_cls(self._llm_config)
            try:
                await self.engine.start()
            except RuntimeError as error:
                raise RuntimeError(last_logged_cause(_own_output()) or str(error)) from error

    return FolderServer


def ingress_class(ingress_base: Any) -> type:
    """Return the class that reads requests; a model that is not served is refused in OpenAI's format."""

    class ModelIngress(ingress_base):  # type: ignore[misc]
        async def _process_llm_request(self, body: Any, *rest: Any, **options: Any) -> Any:
            from fastapi import HTTPException
            from starlette.responses import JSONResponse

            try:
                await self._get_model_id(body.model)
            except HTTPException as error:
                # FastAPI would write {"detail": ...}, which OpenAI's clients do not read.
                return JSONResponse(openai_error(error.status_code, error.detail), error.status_code)
            return await super()._process_llm_request(body, *rest, **options)

    return ModelIngress


def openai_error(status: int, message: str) -> dict[str, Any]:
    """Return the body of a refusal that concerns the request's model."""
    code = "model_not_found" if status == 404 else None
    return {"error": {"message": message, "type": "invalid_request_error", "param": "model", "code": code}}


def _own_output() -> str:
    """Return the end of what this replica and its engine have printed.

    vLLM says in the exception only that the engine failed, and the reason in its log.
    """
    try:
        return Path("/proc/self/fd/1").read_text(encoding="utf-8", errors="replace")[-MAX_LOG_CHARACTERS:]
    except OSError:
        return ""
