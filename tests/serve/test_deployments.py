from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.serve import deployments
from alpagasus_ray.serve.deployments import (
    adapter_loader_class,
    folder_server_class,
    id_in_serve,
    ingress_class,
    limit_answers,
    num_replicas,
    unless_lost,
)
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


class IngressBase:
    def __init__(self, model_cards: Any) -> None:
        self._model_cards = model_cards

    async def _process_llm_request(self, body: Any, call_method: str, raw_request: Any = None) -> Any:
        return (body.model, call_method, raw_request)


def asked(model: str | None, max_answer_tokens: int | None = None, **body: Any) -> Any:
    engine_of = {"full": "full", "filtered": "filtered"}
    ingress_of_ours: Any = ingress_class(IngressBase, list, max_answer_tokens, None)
    ingress = ingress_of_ours(engine_of=engine_of, model_cards={})
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
    with pytest.raises(Refusal) as caught:
        asked(model)
    error = caught.value.body["error"]
    assert caught.value.status == status
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", code)


def test_one_model_is_told_of_by_its_own_name(tmp_path: Path) -> None:
    class Card(SimpleNamespace):
        def model_copy(self, update: dict[str, str]) -> Card:
            return Card(**{**vars(self), **update})

    ingress: Any = ingress_class(IngressBase, list, None, None)(
        engine_of={"a--b": "base"}, model_cards={"base": Card(id="base")}
    )
    assert asyncio.run(ingress.model_data("a--b")).id == "a--b", "Ray reads two dashes as a slash"
    with pytest.raises(Refusal, match='no model "base"'):
        asyncio.run(ingress.model_data("base"))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_may_be_as_long_as_the_endpoint_says(name: str) -> None:
    assert asked("full", 10, **{name: 10}) == ("full", "chat", "raw")
    with pytest.raises(Refusal, match="10 tokens at most") as caught:
        asked("full", 10, **{name: 11})
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"n": 200, "max_tokens": 1},
        {"n": 3, "max_tokens": 40},
        {"prompt": ["a"] * 300},
        {"prompt": ["a"] * 10, "n": 11, "max_tokens": 1},
        {"prompt": [[1, 2], [3]], "max_tokens": 51},
        {"prompt_embeds": [b"a", b"b"], "max_tokens": 51},
    ],
)
def test_the_answers_of_a_request_count_together(body: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=r"100 tokens at most, all [\d,]+ answers of a request together"):
        limit_answers(SimpleNamespace(**body), 100)


@pytest.mark.parametrize(
    "body",
    [
        {"n": 100, "max_tokens": 1},
        {"prompt": list(range(300)), "max_tokens": 100},
        {"prompt": ["a"] * 4, "max_tokens": 25},
        {"prompt": "", "n": None, "max_tokens": 100},
    ],
)
def test_what_stays_within_the_limit_passes(body: dict[str, Any]) -> None:
    limit_answers(SimpleNamespace(**body), 100)


def test_who_names_no_length_is_fitted_in_by_vllm_and_several_answers_share() -> None:
    alone = SimpleNamespace(max_tokens=None, max_completion_tokens=None)
    limit_answers(alone, 10)
    assert alone.max_tokens is None
    several = SimpleNamespace(max_tokens=None, n=3)
    limit_answers(several, 10)
    assert several.max_tokens == 3


def test_who_waits_for_a_lost_model_is_told_to_come_again() -> None:
    lost = True
    cancelled: list[bool] = []

    async def answer(after_s: float) -> str:
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "Five."

    async def run() -> None:
        nonlocal lost
        with pytest.raises(Refusal, match="try again in") as caught:
            await unless_lost(answer(60), lambda: lost, 0.2)
        assert caught.value.status == 503
        assert await unless_lost(answer(0.1), lambda: lost, 0.5) == "Five.", "back in time"
        lost = False
        assert await unless_lost(answer(0.5), lambda: lost, 0.1) == "Five.", "a long answer is no loss"

    asyncio.run(run())
    assert cancelled == [True]


def test_who_goes_away_takes_the_request_along() -> None:
    async def run() -> bool:
        inner = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(unless_lost(inner, lambda: False, 1.0))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.wait({waiting})
        return inner.cancelled()

    assert asyncio.run(run())


def test_replicas_are_counted_where_serve_has_looked() -> None:
    router = SimpleNamespace(request_router=SimpleNamespace(curr_replicas={"a": 1}))
    handle = SimpleNamespace(_router=SimpleNamespace(_asyncio_router=router))
    assert num_replicas(handle) == 1
    for unknown in (SimpleNamespace(), SimpleNamespace(_router=None)):
        assert num_replicas(unknown) is None


def test_an_adapter_that_vllm_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    server = started(tmp_path)
    with pytest.raises(Refusal) as caught:
        asyncio.run(server._maybe_resolve_lora_from_multiplex())
    assert "adapter cannot be loaded" in str(caught.value) and "\n" not in str(caught.value)


def test_only_what_is_served_by_name_can_be_asked_for() -> None:
    engine_of = {"poet": "base-of-poet", "cook": "base-of-poet"}
    assert id_in_serve("cook", engine_of) == "base-of-poet:cook"
    assert id_in_serve(None, {"full": "full"}) == "full"
    for name in ("base-of-poet", "base-of-poet:cook", ""):
        with pytest.raises(Refusal) as caught:
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
