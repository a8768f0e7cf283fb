"""What reads requests and hands them to the models' servers: ray.serve.llm's own, with a few methods changed.

The class to build on comes as an argument: importing it takes vLLM, which only the wiring does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alpagasus_ray.serve.refusals import RETRY_AFTER_S, Refusal

ADAPTER_OF = ":"
"""Between a base model's id and an adapter's name, as Ray Serve wants it."""
LOOK_AGAIN_S = 0.5


def ingress_class(ingress_base: Any, max_answer_tokens: int | None, replica_wait_s: float | None) -> type:
    """Return the class that reads requests.

    A model that is not served, and more tokens than `max_answer_tokens` (None: as many as one likes), are
    refused. Adapters are asked for by their own names, like any model. A request for which no replica is left
    is refused after `replica_wait_s` (None: it waits, and a replica starts for it).
    """

    class ModelIngress(ingress_base):  # type: ignore[misc]
        def __init__(
            self, *, engine_of: Mapping[str, str], windows: Mapping[str, int | None], **options: Any
        ) -> None:
            super().__init__(**options)
            self._engine_of, self._windows = dict(engine_of), dict(windows)
            self._started_s = int(time.time())

        async def _get_model_id(self, model: str | None) -> str:
            return id_in_serve(model, self._engine_of)

        def _card(self, name: str) -> dict[str, Any]:
            engine = self._engine_of[name]
            base = engine if engine != name and engine in self._engine_of else None
            return model_card(name, base, self._windows[name], self._started_s)

        async def models(self) -> Any:
            return _as_it_is({"object": "list", "data": [self._card(name) for name in self._engine_of]})

        async def model_data(self, model: str) -> Any:
            id_in_serve(model, self._engine_of)
            return _as_it_is(self._card(model))

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


def model_card(name: str, base: str | None, window_tokens: int | None, created_s: int) -> dict[str, Any]:
    """Return what the list of models says of one: OpenAI's fields, and vLLM's for its length and its base.

    `base` is what the base model of an adapter is asked for by, `window_tokens` prompt and answer together;
    None: it is not served by itself, and nobody says.
    """
    return {
        "id": name,
        "object": "model",
        "created": created_s,
        "owned_by": "alpagasus_ray",
        "parent": base,
        "max_model_len": window_tokens,
    }


def _as_it_is(content: dict[str, Any]) -> Any:
    """Return a response that is not held to Ray's shape of a model, which lacks what OpenAI's has."""
    from starlette.responses import JSONResponse

    return JSONResponse(content)


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
