"""What a client is told when it gets no answer: OpenAI's form, one line, nothing of the machinery. No Ray."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from pydantic import ValidationError

from alpagasus_ray.causes import cause_in_one_line

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

RETRY_AFTER_S = {429: 1, 503: 5}
"""By status: a place is soon free again; a lost model takes longer to come back."""
MAX_LENGTH = 1000
CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large", 503: "model_unavailable"}
GONE = frozenset(
    {"EngineDeadError", "RayActorError", "WorkerCrashedError", "NodeDiedError"}
    | {"DeploymentUnavailableError", "ReplicaUnavailableError", "BackPressureError"}
)
"""Exceptions of Ray and vLLM, by name, that say that a replica is lost: another one will answer."""
AT_FAULT = "VLLMClientError"
"""What vLLM's exceptions about a request descend from."""
_LOGGER = logging.getLogger("ray.serve")


class Refusal(Exception):
    """A request gets no answer; the message says why."""

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(status, message, code, param)  # all of it: it travels between processes
        self.status, self.message, self.code, self.param = status, message, code or CODES.get(status), param

    def __str__(self) -> str:
        """Return what is said."""
        return self.message

    @property
    def body(self) -> dict[str, Any]:
        """Return what is sent."""
        return refusal_body(self.status, self.code, self.message, self.param)


def refusal_body(status: int, code: str | None, message: str, param: str | None = None) -> dict[str, Any]:
    """Return the body of a refusal, as OpenAI's clients read it."""
    kind = (
        "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal_headers(status: int) -> dict[str, str]:
    """Return what a client goes by besides the body."""
    return {"retry-after": str(RETRY_AFTER_S[status])} if status in RETRY_AFTER_S else {}


def refusal_of(error: Exception) -> Refusal:
    """Return what the client is told of an exception, whoever raised it: FastAPI, vLLM, Ray or this package.

    An exception that says nothing about the request is told without its words: they may name processes,
    paths and code.
    """
    cause = getattr(error, "cause", None)
    if _names(error) & GONE:
        return _lost()
    if isinstance(cause, Exception):  # Ray's wrapper, whose text is the whole trace
        return refusal_of(cause)
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UnicodeEncodeError):
        return Refusal(
            400, "The request has half a character in it (a lone surrogate): no text.", "invalid_text"
        )
    if isinstance(error, ValidationError):
        return invalid(error.errors())
    status = 400 if AT_FAULT in _names(error) else getattr(error, "status_code", 500)
    if not isinstance(status, int) or not 400 <= status < 500:
        return Refusal(500, "The request could not be answered: the endpoint's logs say why.")
    said = str(getattr(error, "detail", None) or getattr(error, "message", None) or error)
    return Refusal(status, _one_line(said))


def invalid(details: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return what the client is told of pydantic's or FastAPI's list of what is wrong with a body."""
    first: Mapping[str, Any] = details[0] if details else {"msg": "the request is malformed"}
    place = [str(part) for part in first.get("loc", ()) if part != "body"]
    if first.get("type") == "json_invalid":
        why = first.get("ctx", {}).get("error", first["msg"])
        return Refusal(400, f"The body is no JSON: {why}, at character {'.'.join(place)}.", "invalid_json")
    where = f"{'.'.join(place)}: " if place else ""
    # The input itself is not repeated: it may be long, or a number that JSON does not have.
    message = _one_line(f"{where}{first['msg']}")
    return Refusal(400, message, "invalid_parameter", place[0] if place else None)


class ErrorWords:
    """Around an application: whatever it raises before it has begun to answer is told as a refusal."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI wants it."""
        has_begun = False

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            refusal = refusal_of(error)
            if refusal.status == 500:
                _LOGGER.error("A request could not be answered", exc_info=error)
            await send_refusal(send, refusal)


async def answer_exception(request: Any, error: Any) -> Any:
    """Return the response to what FastAPI raises itself: a handler for it."""
    from starlette.responses import JSONResponse

    details = getattr(error, "errors", None)
    refusal = invalid(details()) if callable(details) else refusal_of(error)
    headers = {**(getattr(error, "headers", None) or {}), **refusal_headers(refusal.status)}
    return JSONResponse(refusal.body, refusal.status, headers=headers)


async def send_refusal(send: Send, refusal: Refusal, headers: Mapping[str, str] | None = None) -> None:
    """Answer a connection with a refusal."""
    body = json.dumps(refusal.body).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    fields |= {**refusal_headers(refusal.status), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _lost() -> Refusal:
    return Refusal(
        503, f"The model is being started again: try again in {RETRY_AFTER_S[503]} s.", "model_unavailable"
    )


def _names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _one_line(text: str) -> str:
    line = " ".join(text.split()) if "Traceback" not in text else cause_in_one_line(text)
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 1]}…"
