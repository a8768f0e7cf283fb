from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.serve import deployments
from alpagasus_ray.serve.deployments import adapter_loader_class, folder_server_class
from alpagasus_ray.serve.refusals import Refusal


class ServerBase:
    async def __init__(  # type: ignore[misc]
        self, llm_config: Any, *, engine_cls: type, model_downloader: type | None = None
    ) -> None:
        self._llm_config, self._engine_cls = llm_config, engine_cls
        self.model_downloader = model_downloader
        await self.start()

    async def start(self) -> None:
        raise AssertionError("this one starts the telemetry actor")

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        raise ValueError("Failed to load lora model: Call to add_lora method failed:\n size mismatch")

    async def _batch_output_stream(self, generator: AsyncGenerator[str, None]) -> AsyncIterator[list[str]]:
        yield [output async for output in generator]


class EngineBase:
    failure: Exception | None = None

    def __init__(self, llm_config: Any) -> None:
        self.llm_config = llm_config

    async def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        self._start_async_llm_engine("arguments", self.llm_config.engine, "placement group")

    async def check_health(self) -> None:
        """Raise where the engine is dead."""

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


def test_a_replica_ends_with_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve would hand requests on to it until its controller has asked three times."""

    class EndedError(BaseException):
        pass

    def end(code: int) -> None:
        raise EndedError(code)

    answers = iter([None, None, RuntimeError("EngineCore died")])

    async def check_health() -> None:
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(deployments, "WATCH_S", 0.01)
    monkeypatch.setattr(deployments.os, "_exit", end)
    with pytest.raises(EndedError):
        asyncio.run(deployments.end_with_engine(check_health))
    assert next(answers, "all asked") == "all asked"


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


@pytest.mark.parametrize("outputs", [[], ["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_a_streams_first_outputs_are_not_waited_with(tmp_path: Path, outputs: list[str]) -> None:
    server, made = started(tmp_path), []

    async def generated() -> AsyncGenerator[str, None]:
        for output in outputs:
            made.append(output)
            yield output

    async def seen() -> list[tuple[list[str], int]]:
        return [(batch, len(made)) async for batch in server._batch_output_stream(generated())]

    batches = asyncio.run(seen())
    assert [output for batch, _ in batches for output in batch] == outputs
    assert batches[: len(outputs[:2])] == [([output], number) for number, output in enumerate(outputs[:2], 1)]
    assert len(batches) <= 3


def test_an_adapter_that_vllm_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    server = started(tmp_path)
    with pytest.raises(Refusal) as caught:
        asyncio.run(server._maybe_resolve_lora_from_multiplex())
    assert "adapter cannot be loaded" in str(caught.value) and "\n" not in str(caught.value)


def test_an_adapters_files_are_looked_for_when_it_is_asked_for(tmp_path: Path) -> None:
    folders = {"poet": "nowhere", "cook": str(tmp_path), "baker": str(tmp_path)}
    server = started(tmp_path, loader=adapter_loader_class(SimpleNamespace, folders))
    loader = server.model_downloader(download_timeout_s=1, max_tries=1)
    cook, baker = (
        asyncio.run(loader.load_model_from_config(f"base-of-poet:{name}", None)) for name in ("cook", "baker")
    )
    assert (cook.model_id, cook.local_path) == ("cook", str(tmp_path))
    assert cook.lora_assigned_int_id != baker.lora_assigned_int_id
