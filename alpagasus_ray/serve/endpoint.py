"""Where the served models answer, and the questions that show that they do."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any

from alpagasus_ray.errors import UserError

PAUSE_S = 0.5
MAX_SERVER_ERRORS = 5
"""Of one model in a row, before it has answered at all: what cannot be loaded once cannot be later."""
MAX_REASON_LENGTH = 300
ANSWER_WITHIN_S = 120.0
PASSING_STATUSES = frozenset({404, 408, 425, 429})
"""Of 4xx. 404: Serve's own word while it has not heard of the application yet."""
# Loopback must not be asked through the proxy that the environment may name.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server that is up."""

    base_url: str
    """What an OpenAI client takes, such as http://127.0.0.1:8000/v1"""
    model_names: tuple[str, ...]
    api_key: str | None = field(default=None, repr=False)
    """None: it asks nobody for a key."""


class NotAnsweringError(Exception):
    """The endpoint did not answer in time; the message says what it said last."""


class RefusedError(Exception):
    """The endpoint answered, and will not answer otherwise; the message quotes it in one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def wait_until_answering(
    endpoint: Endpoint, timeout_s: float, *, while_waiting: Callable[[], object] = lambda: None
) -> None:
    """Return once the endpoint lists every model and each has completed one token.

    `while_waiting` is called between two attempts; what it raises ends the wait. Raises NotAnsweringError
    when the time is over, and RefusedError for a refusal that waiting does not change: a 4xx, or one 500
    after the other.
    """
    until_s = time.monotonic() + timeout_s
    questions = [partial(_list_all, endpoint, until_s)]
    questions += [partial(_complete, endpoint, name, until_s) for name in endpoint.model_names]
    for question in questions:
        server_errors = 0
        while (failure := _failure_of(question)) is not None:
            if isinstance(failure, RefusedError):
                server_errors += failure.status == 500
                is_lasting = 400 <= failure.status < 500 and failure.status not in PASSING_STATUSES
                if is_lasting or server_errors >= MAX_SERVER_ERRORS:
                    raise failure
            if time.monotonic() >= until_s:
                raise NotAnsweringError(str(failure))
            while_waiting()
            time.sleep(PAUSE_S)


def warm_up(endpoint: Endpoint) -> None:
    """Have each model draw a token.

    An engine that has answered greedily alone gets ready to draw when it is first asked to, and its client
    waits for seconds.
    """
    for name in endpoint.model_names:
        body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 1.0, "top_p": 0.9}
        with suppress(OSError, HTTPException, ValueError):  # it has answered: the rest is the client's to see
            _ask(endpoint, "completions", body, time.monotonic() + ANSWER_WITHIN_S)


def seen_token_ids(endpoint: Endpoint, model: str, prompt: str, *, is_chat: bool) -> list[int] | None:
    """Return the tokens that the endpoint makes of a prompt, sent as it stands or as a user's message.

    None where it does not say them, as vLLM does, and where it refuses the prompt (400): whoever asks in
    earnest is told why. Raises UserError where it gives no answer.
    """
    body: dict[str, Any] = {"model": model, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
    body |= {"messages": [{"role": "user", "content": prompt}]} if is_chat else {"prompt": prompt}
    path = "chat/completions" if is_chat else "completions"
    try:
        answer = _ask(endpoint, path, body, time.monotonic() + ANSWER_WITHIN_S)
    except urllib.error.HTTPError as error:
        if error.code == 400:
            return None
        raise UserError(f"The endpoint's tokens cannot be seen: {_refused(error)}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(f"The endpoint's tokens cannot be seen: {type(error).__name__}: {error}") from error
    ids = answer.get("prompt_token_ids") or answer["choices"][0].get("prompt_token_ids")
    return ids if isinstance(ids, list) else None


def _failure_of(question: Callable[[], None]) -> RefusedError | str | None:
    """Ask, and return what went wrong."""
    try:
        question()
    except urllib.error.HTTPError as error:
        return _refused(error, question)
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _refused(error: urllib.error.HTTPError, question: Callable[[], None] | None = None) -> RefusedError:
    """Return what the endpoint said in OpenAI's form, or else the beginning of its answer, in one line."""
    try:
        said = error.read(100_000).decode("utf-8", "replace")
    except (OSError, HTTPException):
        said = ""
    with suppress(ValueError, KeyError, TypeError):
        said = str(json.loads(said)["error"]["message"])
    line = " ".join(said.split())
    line = line if len(line) <= MAX_REASON_LENGTH else f"{line[: MAX_REASON_LENGTH - 1]}…"
    model = question.args[1] if isinstance(question, partial) and question.func is _complete else None
    whom = f'"{model}"' if model else error.url
    return RefusedError(error.code, f"{whom} answered {error.code}" + (f": {line}" if line else ""))


def _list_all(endpoint: Endpoint, until_s: float) -> None:
    listed = {model["id"] for model in _ask(endpoint, "models", None, until_s)["data"]}
    if missing := sorted(set(endpoint.model_names) - listed):
        raise ValueError(f"{endpoint.base_url}/models does not list {', '.join(missing)}")


def _complete(endpoint: Endpoint, name: str, until_s: float) -> None:
    body = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    answer = _ask(endpoint, "completions", body, until_s)
    if not answer["choices"]:
        raise ValueError(f'"{name}" completed nothing')


def _ask(endpoint: Endpoint, path: str, body: dict[str, Any] | None, until_s: float) -> dict[str, Any]:
    url = f"{endpoint.base_url}/{path}"
    headers = {"Content-Type": "application/json"}
    if endpoint.api_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.api_key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    with _OPENER.open(request, timeout=max(1.0, until_s - time.monotonic())) as response:
        answer = json.load(response)
    if not isinstance(answer, dict):
        raise ValueError(f"{url} answered no JSON object")
    return answer
