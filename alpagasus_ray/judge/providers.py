"""The judges by name. A new one is a class with `complete` and one line here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from alpagasus_ray.judge.answer_key import AnswerKeyChat
from alpagasus_ray.llm.chat import ChatModel
from alpagasus_ray.recipe import JudgeSettings
from alpagasus_ray.recipe_files import require_key


def _openai(settings: JudgeSettings) -> ChatModel:
    from alpagasus_ray.llm.openai_chat import OpenAIChat  # the SDK takes a second to import

    return OpenAIChat(settings.base_url, judge_key(settings), settings.timeout_s)


def _anthropic(settings: JudgeSettings) -> ChatModel:
    from alpagasus_ray.llm.anthropic_chat import AnthropicChat  # the SDK takes a second to import

    return AnthropicChat(settings.base_url, judge_key(settings), settings.timeout_s)


def _answer_key(settings: JudgeSettings) -> ChatModel:
    return AnswerKeyChat()


JUDGES: dict[str, Callable[[JudgeSettings], ChatModel]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "answer-key": _answer_key,
}
KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""Where each provider's key is looked for when the recipe names no variable. No entry: no key is needed."""


def judge_key(settings: JudgeSettings) -> str | None:
    """Return the judge's API key from the environment, or None where none is needed.

    A server of one's own (base_url) may need no key, so there a missing one is left to the server;
    the providers themselves always need one: UserError names the variable.
    """
    usual = KEY_VARIABLES.get(settings.judge)
    if usual is None:
        return None
    variable = settings.api_key_env or usual
    if settings.base_url is not None:
        return os.environ.get(variable)
    return require_key(variable)


def account_of(settings: JudgeSettings) -> str:
    """Return the part of the ledger that a judge's replies are kept in.

    A model's name means one thing at one endpoint: what a test server on loopback said for
    gpt-4o-mini must never be taken for OpenAI's word. The recipe's own name for it comes first.
    """
    if settings.account is not None:
        return settings.account
    where = (settings.base_url or "").rstrip("/")
    digest = hashlib.sha256(where.encode()).hexdigest()[:12] if where else "default"
    return f"{settings.judge}-{digest}"


def build_judge(settings: JudgeSettings) -> ChatModel:
    """Return the judge of these settings; its key is read from this process's environment."""
    return JUDGES[settings.judge](settings)
