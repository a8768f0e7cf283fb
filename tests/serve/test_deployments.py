from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.serve import deployments
from alpagasus_ray.serve.deployments import (
    NoSuchModelError,
    adapter_loader_class,
    folder_server_class,
    id_in_serve,
    ingress_class,
    limit_answer,
)


class ServerBase:
    async def __init__(  # type: ignore[misc]
        self, llm_config: Any, *, engine_cls: type, model_downloader: type | None = None
    ) -> None:
        self._llm_config, self._engine_cls = llm_config, engine_cls
        self.model_downloader = model_downloader
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


def started(folder: Path, *, on_gpu: bool = False, world_size: int = 1, loader: type | None = None) -> Any:
    context = SimpleNamespace(run_init_node=True)
    parallel = SimpleNamespace(world_size=world_size, distributed_executor_backend="mp")
    engine_config = SimpleNamespace(hf_model_id=None, mirror_config="s3://")
    config = SimpleNamespace(
        get_or_create_callback=lambda: SimpleNamespace(ctx=context),
        engine=SimpleNamespace(parallel_config=parallel),
        context=context,
        model_loading_config=SimpleNamespace(model_source=f"{folder}/../{folder.name}"),
        get_engine_config=lambda: engine_config,
        parallel=parallel,
    )

    # As Serve does with a class whose __init__ is a coroutine.
    server = object.__new__(folder_server_class(ServerBase, EngineBase, loader, on_gpu=on_gpu))
    asyncio.run(server.__init__(config))  # type: ignore[misc]
    return server


def test_nothing_is_downloaded_and_the_worker_lives_with_its_engine(tmp_path: Path) -> None:
    server = started(tmp_path)
    engine_config = server._llm_config.get_engine_config()
    assert (engine_config.hf_model_id, engine_config.mirror_config) == (str(tmp_path), None)
    assert server.model_downloader is None
    assert server._llm_config.context.run_init_node is False
    assert server._llm_config.parallel.distributed_executor_backend == "uni"
    assert server.engine.started_with == ("arguments", "placement group")


def test_several_workers_keep_processes_of_their_own(tmp_path: Path) -> None:
    assert started(tmp_path, world_size=2)._llm_config.parallel.distributed_executor_backend == "mp"


def test_engines_on_gpus_are_rays_own(tmp_path: Path) -> None:
    server = started(tmp_path, on_gpu=True)
    assert type(server.engine) is EngineBase
    assert server._llm_config.parallel.distributed_executor_backend == "mp"


def test_the_reason_comes_from_the_engines_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(EngineBase, "failure", RuntimeError("see root cause above"))
    monkeypatch.setattr(
        deployments, "_own_output", lambda: "(E pid=1) ERROR [core.py:1] ValueError: too wide\n"
    )
    with pytest.raises(RuntimeError, match=r"^ValueError: too wide$"):
        started(tmp_path)
    monkeypatch.setattr(deployments, "_own_output", lambda: "")
    with pytest.raises(RuntimeError, match="see root cause above"):
        started(tmp_path)


class IngressBase:
    def __init__(self, model_cards: Any) -> None:
        self._model_cards = model_cards

    async def _process_llm_request(self, body: Any, call_method: str, raw_request: Any = None) -> Any:
        return (body.model, call_method, raw_request)


def asked(model: str | None, max_answer_tokens: int | None = None, **body: Any) -> Any:
    engine_of = {"full": "full", "filtered": "filtered"}
    ingress: Any = ingress_class(IngressBase, list, max_answer_tokens)(engine_of=engine_of, model_cards={})
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


def test_only_what_is_served_by_name_can_be_asked_for() -> None:
    engine_of = {"poet": "base-of-poet", "cook": "base-of-poet"}
    assert id_in_serve("cook", engine_of) == "base-of-poet:cook"
    assert id_in_serve(None, {"full": "full"}) == "full"
    for name in ("base-of-poet", "base-of-poet:cook", ""):
        with pytest.raises(NoSuchModelError) as caught:
            id_in_serve(name, engine_of)
        assert caught.value.status == 404 and "poet, cook" in str(caught.value)


def test_an_adapters_files_are_looked_for_when_it_is_asked_for(tmp_path: Path) -> None:
    folders = {"poet": "nowhere", "cook": str(tmp_path), "baker": str(tmp_path)}
    server = started(tmp_path, loader=adapter_loader_class(SimpleNamespace, folders))
    loader = server.model_downloader(download_timeout_s=1, max_tries=1)
    cook, baker = (
        asyncio.run(loader.load_model_from_config(f"base-of-poet:{name}", None)) for name in ("cook", "baker")
    )
    assert (cook.model_id, cook.local_path) == ("cook", str(tmp_path))
    assert cook.lora_assigned_int_id != baker.lora_assigned_int_id
