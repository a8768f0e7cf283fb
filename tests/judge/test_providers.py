"""The judges by name: which key each gets, and which protocol each speaks."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.providers import JUDGES, KEY_VARIABLES, build_judge, judge_key
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.recipe import JudgeSettings
from tests.loopback import LoopbackServer
from tests.loopback_protocols import CHAT, MESSAGES


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in KEY_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_judge_of_the_recipe_can_be_built() -> None:
    assert set(get_args(JudgeSettings.model_fields["judge"].annotation)) == set(JUDGES)


@pytest.mark.parametrize(("judge", "variable"), KEY_VARIABLES.items())
def test_each_provider_has_a_variable_of_its_own(
    judge: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=variable):
        judge_key(JudgeSettings(judge=judge))
    monkeypatch.setenv(variable, "its key")
    assert judge_key(JudgeSettings(judge=judge)) == "its key"


@pytest.mark.parametrize("judge", KEY_VARIABLES)
def test_the_recipe_may_name_another_variable(judge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = JudgeSettings(judge=judge, api_key_env="MY_KEY")
    with pytest.raises(UserError, match="MY_KEY"):
        judge_key(settings)
    monkeypatch.setenv("MY_KEY", "mine")
    monkeypatch.setenv(KEY_VARIABLES[judge], "not this one")
    assert judge_key(settings) == "mine"


@pytest.mark.parametrize("judge", KEY_VARIABLES)
def test_a_server_of_ones_own_may_need_no_key(judge: Any) -> None:
    assert judge_key(JudgeSettings(judge=judge, base_url="http://127.0.0.1:1")) is None


def test_the_answer_key_needs_no_key() -> None:
    assert judge_key(JudgeSettings(judge="answer-key")) is None


@pytest.mark.parametrize(("judge", "path"), [("openai", CHAT), ("anthropic", MESSAGES)])
def test_each_judge_speaks_its_own_protocol(
    endpoint: LoopbackServer, judge: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.api_key = "its key"
    monkeypatch.setenv(KEY_VARIABLES[judge], "its key")

    async def ask() -> str:
        chat = build_judge(JudgeSettings(judge=judge, base_url=endpoint.base_url))
        reply = await chat.complete(Request((Message("user", "Grade this."),), "model", Sampling(5)))
        await chat.close()
        return reply.text

    assert asyncio.run(ask())
    assert list(endpoint.usage) == [path]
