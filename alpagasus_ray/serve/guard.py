"""Who may ask the endpoint, and how much at once: an ASGI application around another one. Pure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alpagasus_ray.serve.refusals import (
    RETRY_AFTER_S,
    AsgiApp,
    Receive,
    Refusal,
    Scope,
    Send,
    send_refusal,
)

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

MIB = 2**20
LENGTH_DIGITS = 18
"""Of a body's announced length: more than any body has, and few enough for a number."""
POLICY_VIOLATION = 1008
HEADERS = {
    401: {"www-authenticate": "Bearer"},
    # What has not been read yet would be taken for a request.
    413: {"connection": "close"},
}


@dataclass(frozen=True)
class KeyDigest:
    """What a key is known by where it is checked: nobody reads the key in it.

    It travels with the deployment, which Ray shows to everybody on the cluster; the key does not.
    """

    digest: bytes
    salt: bytes

    @classmethod
    def of(cls, key: str) -> KeyDigest:
        """Return what a key is known by (SHA-256 behind a salt of its own)."""
        salt = secrets.token_bytes(16)
        return cls(_digest(key.encode(), salt), salt)

    def is_of(self, key: bytes) -> bool:
        """Return whether this is the key, in a time that does not depend on where they differ."""
        return hmac.compare_digest(_digest(key, self.salt), self.digest)


@dataclass(frozen=True)
class Admission:
    """Who is let in."""

    key: KeyDigest | None = None
    """None: everybody."""
    max_body_bytes: int = 4 * MIB
    max_in_flight: int = 1024
    """Requests at once, streams that are still read among them."""

    @classmethod
    def of(cls, settings: ServeSettings, key: str | None) -> Admission:
        """Return whom the settings let in, by what is known of the key: the key itself stays where it is."""
        return cls(
            key=None if key is None else KeyDigest.of(key),
            max_body_bytes=int(settings.max_body_mib * MIB),
            max_in_flight=settings.max_requests_in_flight,
        )


class Guard:
    """Lets requests through to an application, or refuses them in OpenAI's format.

    401 without the key, 413 for a body that is too long, 429 with Retry-After where enough are under way.
    """

    def __init__(self, app: AsgiApp, admission: Admission) -> None:
        self._app, self._admission = app, admission
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI wants it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # None is served here, and none gets around the key. Serve's proxy wants a code (RFC 6455, 7.4.1).
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if (refusal := self._refusal(scope)) is not None:
            await send_refusal(send, refusal, HEADERS.get(refusal.status))
            return
        self._in_flight += 1
        try:
            await self._pass_on(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request is refused whose body nobody has to read for that."""
        headers = dict(scope["headers"])
        admission = self._admission
        if admission.key is not None and not admission.key.is_of(_bearer(headers)):
            said = "Incorrect API key" if b"authorization" in headers else "You didn't provide an API key"
            return Refusal(401, f"{said}: send it as `Authorization: Bearer KEY`.", "invalid_api_key")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > LENGTH_DIGITS or int(length) > admission.max_body_bytes):
            return self._too_long()
        if self._in_flight >= admission.max_in_flight:
            many = f"{self._in_flight} requests are under way, which is all that this endpoint takes at once."
            return Refusal(429, f"{many} Try again in {RETRY_AFTER_S[429]} s.", "rate_limit_exceeded")
        return None

    def _too_long(self) -> Refusal:
        limit = self._admission.max_body_bytes / MIB
        return Refusal(413, f"The body is longer than {limit:g} MiB, this endpoint's limit.")

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application read the body up to the limit: a length need not be announced, or be true."""
        read_bytes, is_too_long, has_begun = 0, False, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read_bytes, is_too_long
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > self._admission.max_body_bytes:
                is_too_long = True
                raise _TooLongError
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal has_begun
            if is_too_long and not has_begun:
                return  # the application takes a body that it cannot read for one that is malformed
            has_begun = True
            await send(message)

        with suppress(_TooLongError):
            await self._app(scope, counted, noted)
        if is_too_long and not has_begun:
            await send_refusal(send, self._too_long(), HEADERS[413])


class _TooLongError(Exception):
    """The body goes on beyond the limit."""


def _bearer(headers: MutableMapping[bytes, bytes]) -> bytes:
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _digest(key: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(salt + key).digest()
