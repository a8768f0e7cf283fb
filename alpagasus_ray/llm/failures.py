"""What a failed request means, whichever provider it went to: which kind it is, and what it may have cost."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp

from alpagasus_ray.llm.chat import REFUSED, EndpointError, ReplyError

MAX_WORDS = 300
"""Characters of the endpoint's own words that a line of ours repeats."""
NO_KEY = "no-key"
"""Sent to servers that ask for none; the SDKs insist on a text."""
OUT_OF_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
"""OpenAI's codes of an account that no request can be paid from."""
_OUT_OF_MONEY = re.compile("credit balance is too low|reached your specified API usage limits")
"""Anthropic's words for the same, which come with status 400."""
_TOO_LONG = re.compile("maximum context length|prompt is too long|exceed context limit")
"""The words of vLLM and of Anthropic, which have no code for it."""
_SETTING = re.compile("`(temperature|top_p)`|^(temperature|top_p)\\b")
"""How Anthropic names the setting at fault."""
_NO_ADDRESS = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, UnicodeError)
_UNREADABLE = (aiohttp.ClientResponseError, aiohttp.http_exceptions.ContentEncodingError)
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20})
"""X509_V_ERR_* of a certificate that its own issuer, or one who is not known, has signed (openssl-verify)."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An answer with a status of 400 or more."""

    status: int
    words: str
    """The endpoint's own, in one line, without the key."""
    code: str = ""
    param: str = ""
    retry_after_s: float | None = None

    @property
    def takes_no_max_tokens(self) -> bool:
        """Whether the model wants `max_completion_tokens` instead of `max_tokens` (OpenAI's newer ones)."""
        return self.status == 400 and self.code == "unsupported_parameter" and self.param == "max_tokens"


def rejection_of(status: int, body: object, key: str, retry_after_s: float | None) -> Rejection:
    """Return what an answer's status and body say; `body` is its JSON value, or its text where it is none."""
    error: Any = body
    for _ in range(2):  # gateways put one into another
        error = error.get("error", error) if isinstance(error, dict) else error
    found = error if isinstance(error, dict) else {}
    return Rejection(
        status,
        words=one_line(found.get("message") or error or "", key) or f"status {status}",
        # Anthropic has a type where OpenAI has a code, and vLLM's code is the status.
        code=str(found.get("code") or found.get("type") or ""),
        param=str(found.get("param") or ""),
        retry_after_s=retry_after_s,
    )


def failure_of(rejection: Rejection, where: str, model: str) -> ReplyError | EndpointError:
    """Return the failure that this answer is; `where` names the endpoint.

    EndpointError where every other request would fail as well. An answer that is an error costs nothing.
    """
    words = rejection.words
    if reason := _why_none_can_pass(rejection, model):
        return EndpointError(f"{where} {reason}: {words}", may_be_the_row=rejection.status == 403)
    kind = _kind(rejection)
    if kind == "refused request":
        words = f"{rejection.status}: {words}"
    return ReplyError(kind, words, retry_after_s=rejection.retry_after_s)


def _why_none_can_pass(rejection: Rejection, model: str) -> str | None:
    if rejection.status == 402 or rejection.code in OUT_OF_MONEY or _OUT_OF_MONEY.search(rejection.words):
        return "says that the account's quota is used up"
    if rejection.status == 400 and (setting := _setting_not_taken(rejection)):
        return (
            f"does not take this {setting} for model {model}; "
            f"set {setting} to null in the recipe's section of this judge"
        )
    reasons = {
        401: "refuses the API key",
        403: "refuses access",
        404: f"does not know model {model}, or is no endpoint of this protocol",
    }
    return reasons.get(rejection.status)


def _setting_not_taken(rejection: Rejection) -> str | None:
    if rejection.code in ("unsupported_parameter", "unsupported_value"):
        return rejection.param if rejection.param in ("temperature", "top_p") else None
    if rejection.code == "invalid_request_error" and not rejection.param:
        found = _SETTING.search(rejection.words)
        return found and (found[1] or found[2])
    return None


def _kind(rejection: Rejection) -> str:
    match rejection.status:
        # A request that is larger than a whole minute's tokens never passes, though the status says so.
        case 429 if rejection.words.startswith("Request too large"):
            return "too long"
        case 429:
            return "rate limited"
        # Overloaded: the remedy is a rate limit's, to ask less for a while and to wait as long as it takes.
        case 529:
            return "rate limited"
        case 408:
            return "timeout"
        case 409 | 425:  # the official SDKs try a conflict again, too
            return "server error"
        case status if status >= 500:
            return "server error"
        case 400 if rejection.code in ("context_length_exceeded", "string_above_max_length"):
            return "too long"
        case 400 if _TOO_LONG.search(rejection.words):
            return "too long"
        case 400 if rejection.code in ("content_filter", "content_policy_violation"):
            return REFUSED
        case _:
            return "refused request"


def unreached(error: BaseException, where: str, key: str) -> ReplyError | EndpointError:
    """Return the failure of a request to which no whole answer came.

    EndpointError for an address that is none, or a certificate that nobody vouches for. The request may be
    billed unless it is certain that it was never sent: the connection was not made.
    """
    chain = _chain(error)
    if (hopeless := _hopeless(error, chain, where, key)) is not None:
        return hopeless
    if refused := [one for one in chain if isinstance(one, aiohttp.ClientHttpProxyError)]:
        # Not its own words: they hold the proxy's address, and so perhaps a password.
        why = one_line(f"{refused[0].status} {refused[0].message}", key)
        return ReplyError("connection", f"the proxy does not let {where} be reached: {why}")
    if any(isinstance(one, aiohttp.ConnectionTimeoutError) for one in chain):
        return ReplyError("timeout", f"{where} cannot be reached in time")
    if any(isinstance(one, aiohttp.ClientConnectorError) for one in chain):
        return ReplyError("connection", f"{where} cannot be reached: {one_line(chain[-1], key)}")
    if any(isinstance(one, aiohttp.ServerTimeoutError) for one in chain):
        return late(where)
    if unread := [one for one in chain if isinstance(one, _UNREADABLE)]:
        words = one_line(unread[-1].message, key)
        return ReplyError("connection", f"{where} answers what cannot be read: {words}", may_be_billed=True)
    if any(isinstance(one, ConnectionError | aiohttp.ClientError) for one in chain):
        return ReplyError("connection", f"{where} hung up before the reply was whole", may_be_billed=True)
    if any(isinstance(one, TimeoutError) for one in chain):
        return late(where)
    return ReplyError("connection", f"{where}: {one_line(chain[-1], key)}", may_be_billed=True)


def _hopeless(error: BaseException, chain: list[BaseException], where: str, key: str) -> EndpointError | None:
    """Return the failure where every other request would fail as well."""
    for one in chain:
        # aiohttp's own, which stands before it in the chain, is one too, but has no code.
        if isinstance(one, ssl.SSLCertVerificationError) and not isinstance(one, aiohttp.ClientError):
            return _not_trusted(one, where, key)
        if isinstance(one, aiohttp.TooManyRedirects):
            return EndpointError(f"{where} sends every request on to somewhere else")
    if type(error) is ValueError or any(isinstance(one, _NO_ADDRESS) for one in chain):
        return EndpointError(f"{where} is no address of an endpoint: {one_line(chain[-1], key)}")
    return None


def _not_trusted(error: ssl.SSLCertVerificationError, where: str, key: str) -> EndpointError:
    advice = ": name those of your own authority in SSL_CERT_FILE"
    return EndpointError(
        f"{where} shows a certificate that is not trusted ({one_line(error, key)})"
        + (advice if error.verify_code in _UNKNOWN_AUTHORITY else "")
    )


def late(where: str) -> ReplyError:
    """Return the failure of a request that was sent and not answered in time."""
    return ReplyError("timeout", f"no reply from {where} in time", may_be_billed=True)


def malformed(message: str) -> ReplyError:
    """Return the failure of a reply that cannot be read; it came with status 200, so it may be billed."""
    return ReplyError("malformed reply", message, may_be_billed=True)


def usable_key(api_key: str | None) -> str:
    """Return the key as it is sent; raises EndpointError for one that no header can hold."""
    key = (api_key or NO_KEY).strip() or NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise EndpointError("the API key holds characters that no key has: export it anew")
    return key


def one_line(words: object, key: str) -> str:
    """Return at most MAX_WORDS characters of somebody else's words, in one line, without the key."""
    # Masked before it is cut: half a key is still too much.
    text = writable(str(words)).replace(key, "***")
    return " ".join(text.split()).replace(key, "***")[:MAX_WORDS]


def writable(text: str) -> str:
    """Return the text as a file can hold it: half a surrogate pair is valid in JSON, but in no file."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
