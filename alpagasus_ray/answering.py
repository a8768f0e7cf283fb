"""How the trained models are asked: what training, serving and generation have to agree on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from alpagasus_ray.corpus.testsets import TestSet
from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Request
from alpagasus_ray.model_sources import local_folder
from alpagasus_ray.serve.endpoint import Endpoint, seen_token_ids
from alpagasus_ray.serve.engine_settings import (
    engine_arguments,
    engine_environment,
    uses_gpus,
    without_server_arguments,
    worker_bundle,
    workers_per_replica,
)
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ServedModel, end_token_ids
from alpagasus_ray.serve.whole_answers import WholeAnswers
from alpagasus_ray.serve.windows import engine_window, window_of

if TYPE_CHECKING:
    from alpagasus_ray.generate.offline_road import OfflineEngine, OfflineRoad
    from alpagasus_ray.recipe import ServeSettings

NUM_CHECKED = 8
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""By its whole name: vLLM takes "uni" on CPUs for a worker in a process of its own, which imports vLLM once
more and leaves 160 MiB of shared memory behind when Ray ends it."""


class Answers(Protocol):
    """What an arm is to be asked, by generation or a benchmark."""

    arm: str

    @property
    def is_chat(self) -> bool:
        """Whether the arm was trained by its own chat template."""
        ...

    @property
    def testsets(self) -> list[TestSet]:
        """The prompts."""
        ...

    def requests(self) -> dict[tuple[str, str], Request]:
        """Return what is asked, by test set and prompt id, in the prompts' order."""
        ...


def token_ids(generation: Answers, folder: str) -> dict[str, list[int]]:
    """Return the tokens of each request as training would have written them, by the request's key."""
    from alpagasus_ray.train.asked_tokens import asked_token_ids

    prompts = [prompt for testset in generation.testsets for prompt in testset.prompts]
    ids = asked_token_ids(folder, "chat" if generation.is_chat else "alpaca", prompts)
    return dict(zip((one.key for one in generation.requests().values()), ids, strict=True))


def check_window(model: ServedModel, max_new_tokens: int, settings: ServeSettings, setting: str) -> None:
    """Raise UserError where a model's window leaves no room for a prompt; `setting` is the length's."""
    window = window_of(model, settings).tokens
    if window is not None and window <= max_new_tokens:
        raise UserError(
            f"{model.name} takes {window:,} tokens, prompt and answer together, and {setting} is "
            f"{max_new_tokens:,}: lower it (--set {setting}={window // 2})"
        )


def check_token_parity(endpoint: Endpoint, generation: Answers, folder: str) -> None:
    """Raise UserError unless the endpoint sees the tokens that training would have written.

    A few requests of all are compared, from the longest on. A template or a tokenizer that differs between
    training and serving makes a model look worse than it is, without a word.
    """
    expected = token_ids(generation, folder)
    requests = sorted(generation.requests().values(), key=lambda one: -len(one.messages[0].content))
    step = max(1, len(requests) // NUM_CHECKED)
    for request in requests[::step]:
        text = request.messages[0].content
        seen = seen_token_ids(endpoint, generation.arm, text, is_chat=generation.is_chat)
        if seen is not None and seen != expected[request.key]:
            wrote = expected[request.key]
            pairs = zip(seen, wrote, strict=False)
            place = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            raise UserError(
                f"{generation.arm}: the endpoint sees other tokens than training wrote, from number {place} "
                f"on ({len(seen)} tokens, {len(wrote)} in training): the tokenizer or the chat template in "
                f"{folder} is not the one that was trained with"
            )


def offline_road(
    generation: Answers, folder: str, settings: ServeSettings, resources: Mapping[str, float]
) -> OfflineRoad:
    """Return the road through an engine of its own.

    Raises UserError where the folder holds no model, or vLLM does not know an argument of the recipe's.
    """
    from alpagasus_ray.generate.offline_road import OfflineRoad, quieten

    quieten()
    alone = without_server_arguments(settings)
    engine = offline_engine(ServedModel(generation.arm, folder), alone, resources)
    return OfflineRoad(engine, token_ids(generation, folder))


def offline_engine(
    model: ServedModel, settings: ServeSettings, resources: Mapping[str, float]
) -> OfflineEngine:
    """Return what is to be started for a model, on what a cluster with these resources has.

    Raises UserError where the folder holds no model.
    """
    from alpagasus_ray.generate.offline_road import OfflineEngine

    on_gpu = uses_gpus(settings, resources)
    (engine,) = engines_of([model], settings.base_model)
    # Nobody reads an engine's own statistics here.
    arguments = {"disable_log_stats": True} | engine_arguments(engine, settings, on_gpu=on_gpu)
    if not on_gpu and workers_per_replica(settings) == 1:
        arguments.setdefault("distributed_executor_backend", ONE_PROCESS)
    arguments.pop("chat_template", None)  # the server's: here the prompts are tokens already
    return OfflineEngine(
        folder=local_folder(engine.folder),
        arguments=arguments,
        environment=engine_environment(settings, on_gpu=on_gpu),
        bundle=worker_bundle(settings, on_gpu=on_gpu),
        num_replicas=max(1, settings.num_replicas),
        patience_s=settings.startup_timeout_s,
        end_ids=end_token_ids(engine.folder),
        max_length_tokens=engine_window(engine.folder, settings).assumed,
        adapter=local_folder(model.folder) if engine.adapters else None,
        output_kind=WholeAnswers,
    )
