from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException

from alpagasus_ray.serve import deployments
from alpagasus_ray.serve.deployments import folder_server_class, ingress_class, limit_answer


class ServerBase:
    async def __init__(self, llm_config: Any, *, engine_cls: type) -> None:  # type: ignore[misc]
        self._llm_config, self._engine_cls = llm_config, engine_cls
        await self.start()

    async def start(self) -> None:
        raise AssertionError("this one starts the telemetry actor")


class EngineBase:
    failure: Exception | None = None

    def __init__(self, llm_config: Any) -> None:
        self.llm_config = llm_config

    async def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._start_async_llm_engine("arguments", self.llm_config.engine, "placement group")

    def _start_async_llm_engine(self, arguments: Any, config: Any, placement_group: Any) -> None:
        self.started_with = (arguments, placement_group)


def started(*, on_gpu: bool = False, world_size: int = 1) -> Any:
    context = SimpleNamespace(run_init_node=True)
    parallel = SimpleNamespace(world_size=world_size, distributed_executor_backend="mp")
    config = SimpleNamespace(
        get_or_create_callback=lambda: SimpleNamespace(ctx=context),
        engine=SimpleNamespace(parallel_config=parallel),
        context=context,
        parallel=parallel,
    )

    # As Serve does with a class whose __init__ is a coroutine.
    server = object.__new__(folder_server_class(ServerBase, EngineBase, on_gpu=on_gpu))
    asyncio.run(server.__init__(config))  # type: ignore[misc]
    return server


def test_nothing_is_downloaded_and_the_worker_lives_with_its_engine() -> None:
    server = started()
    assert server._llm_config.context.run_init_node is False
    assert server._llm_config.parallel.distributed_executor_backend == "uni"
    assert server.engine.started_with == ("arguments", "placement group")


def test_several_workers_keep_processes_of_their_own() -> None:
    assert started(world_size=2)._llm_config.parallel.distributed_executor_backend == "mp"


def test_engines_on_gpus_are_rays_own() -> None:
    server = started(on_gpu=True)
    assert type(server.engine) is EngineBase
    assert server._llm_config.parallel.distributed_executor_backend == "mp"


def test_the_reason_comes_from_the_engines_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineBase, "failure", RuntimeError("see root cause above"))
    monkeypatch.setattr(
        deployments, "_own_output", lambda: "(E pid=1) ERROR [core.py:1] ValueError: too wide\n"
    )
    with pytest.raises(RuntimeError, match=r"^ValueError: too wide$"):
        started()
    monkeypatch.setattr(deployments, "_own_output", lambda: "")
    with pytest.raises(RuntimeError, match="see root cause above"):
        started()


class IngressBase:
    async def _get_model_id(self, model: str | None) -> str:
        if model is None:
            raise HTTPException(400, "Model parameter is required")
        if model != "full":
            raise HTTPException(404, f"no {model}")
        return model

    async def _process_llm_request(self, body: Any, call_method: str, raw_request: Any = None) -> Any:
        return (body.model, call_method, raw_request)


def asked(model: str | None, max_answer_tokens: int | None = None, **body: Any) -> Any:
    ingress: Any = ingress_class(IngressBase, max_answer_tokens)()
    return asyncio.run(
        ingress._process_llm_request(
            SimpleNamespace(model=model, **body), call_method="chat", raw_request="raw"
        )
    )


def test_a_served_model_is_asked() -> None:
    assert asked("full") == ("full", "chat", "raw")


@pytest.mark.parametrize(
    ("model", "status", "code"), [("fulll", 404, "model_not_found"), (None, 400, "invalid_model")]
)
def test_another_is_refused_in_openais_format(model: str | None, status: int, code: str) -> None:
    response = asked(model)
    error = json.loads(response.body)["error"]
    assert response.status_code == status
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", code)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_may_be_as_long_as_the_endpoint_says(name: str) -> None:
    assert asked("full", 10, **{name: 10}) == ("full", "chat", "raw")
    response = asked("full", 10, **{name: 11})
    assert response.status_code == 400 and b"10 tokens at most" in response.body


def test_who_names_no_length_gets_the_longest() -> None:
    body = SimpleNamespace(max_tokens=None, max_completion_tokens=None)
    assert limit_answer(body, 10) and body.max_tokens == 10
