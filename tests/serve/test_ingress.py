from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from alpagasus_ray.serve.ingress import (
    id_in_serve,
    ingress_class,
    limit_answers,
    num_replicas,
    unless_lost,
)
from alpagasus_ray.serve.refusals import Refusal


class IngressBase:
    def __init__(self, model_cards: Any) -> None:
        self._model_cards = model_cards

    async def _process_llm_request(self, body: Any, call_method: str, raw_request: Any = None) -> Any:
        return (body.model, call_method, raw_request)


def asked(model: str | None, max_answer_tokens: int | None = None, **body: Any) -> Any:
    engine_of = {"full": "full", "filtered": "filtered"}
    ingress_of_ours: Any = ingress_class(IngressBase, max_answer_tokens, None)
    ingress = ingress_of_ours(engine_of=engine_of, windows={}, model_cards={})
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


def test_models_are_told_of_by_their_own_names() -> None:
    ingress: Any = ingress_class(IngressBase, None, None)(
        engine_of={"a--b": "base", "poet": "base"}, windows={"a--b": 64, "poet": None}, model_cards={}
    )

    def told(response: Any) -> Any:
        return json.loads(asyncio.run(response).body)

    listed = told(ingress.models())
    assert (listed["object"], [card["id"] for card in listed["data"]]) == ("list", ["a--b", "poet"])
    assert [card["parent"] for card in listed["data"]] == [None, None], "nobody can ask for the base"
    card = told(ingress.model_data("a--b"))
    assert card["id"] == "a--b", "Ray reads two dashes as a slash"
    assert abs(card["created"] - time.time()) < 60 and card["max_model_len"] == 64
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


def test_only_what_is_served_by_name_can_be_asked_for() -> None:
    engine_of = {"poet": "base-of-poet", "cook": "base-of-poet"}
    assert id_in_serve("cook", engine_of) == "base-of-poet:cook"
    assert id_in_serve(None, {"full": "full"}) == "full"
    for name in ("base-of-poet", "base-of-poet:cook", ""):
        with pytest.raises(Refusal) as caught:
            id_in_serve(name, engine_of)
        assert caught.value.status == 404 and "poet, cook" in str(caught.value)
