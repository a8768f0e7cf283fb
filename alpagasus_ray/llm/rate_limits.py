"""What the headers of a response say: the account's limits, and how long to wait. Garbage says nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import mktime_tz, parsedate_tz
from typing import NamedTuple

from alpagasus_ray.llm.chat import RateLimits

MAX_WAIT_S = 3600.0
"""The longest that is waited because an endpoint asks for it."""
MINUTE_S, DAY_S = 60.0, 86_400.0
MAX_RESET_S = 2 * DAY_S
"""A reset that is further away is garbage: no provider has limits of more than a day in its headers."""
_UNITS_S = {"d": DAY_S, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|ms|m|s|us|µs|ns)", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_ANTHROPIC_TOKENS = ("tokens", "input-tokens", "output-tokens")


class _Window(NamedTuple):
    """One limit as the headers show it; None where they do not."""

    limit: int | None
    left: int | None
    reset_s: float | None


def openai_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """Return what OpenAI's headers say of the limits, or None where they say nothing.

    `headers` is asked for lower-case names. They do not say how long a limit's period is. It is a minute
    (platform.openai.com/docs/guides/rate-limits), but on some tiers, and at some compatible providers,
    `requests` is a limit per day. Used-up capacity comes back evenly, so
    period = reset * limit / (limit - remaining). A limit whose period is a day says nothing of the
    minute: requests_per_minute is then None, and what is left and its reset are told all the same.
    """
    requests = _openai_window(headers, "requests")
    tokens = _openai_window(headers, "tokens")
    return _limits(
        requests_per_minute=None if _is_of_a_day(requests) else _rate(requests),
        tokens_per_minute=None if _is_of_a_day(tokens) else _rate(tokens),
        requests=requests,
        tokens_left=tokens.left,
        tokens_reset_s=tokens.reset_s,
    )


def anthropic_limits(headers: Mapping[str, str], now: float) -> RateLimits | None:
    """Return what Anthropic's headers say of the limits, or None where they say nothing.

    `headers` is asked for lower-case names, `now` is the Unix time in seconds that resets are counted from.
    All limits are per minute (platform.claude.com/docs/en/api/rate-limits); input and output tokens
    are limited apart. tokens_per_minute is both together; tokens_left is the share that is left of the
    scarcer kind, of both together: with a tenth of the output tokens left it is a tenth, however many
    input tokens there are.
    """
    requests = _anthropic_window(headers, "requests", now)
    both, input, output = (_anthropic_window(headers, kind, now) for kind in _ANTHROPIC_TOKENS)
    rate = _rate(both)
    if rate is None and input.limit and output.limit:
        rate = float(input.limit + output.limit)
    shares = [
        (one.left / one.limit, one.reset_s)
        for one in (both, input, output)
        if one.limit and one.left is not None
    ]
    share, reset_s = min(shares, key=lambda one: one[0], default=(None, None))
    return _limits(
        requests_per_minute=_rate(requests),
        tokens_per_minute=rate,
        requests=requests,
        tokens_left=None if share is None or rate is None else int(min(share, 1.0) * rate),
        tokens_reset_s=None if rate is None else reset_s,
    )


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return how long the endpoint asks to be left alone, or None where it does not say.

    Read from retry-after-ms, else from retry-after: seconds, or an HTTP date (RFC 9110, section
    10.2.3), which is counted from `now`, a Unix time in seconds. Between 0 and MAX_WAIT_S.
    """
    wait_s = _number(headers.get("retry-after-ms"))
    if wait_s is not None:
        wait_s /= 1000
    else:
        text = headers.get("retry-after")
        wait_s = _number(text)
        if wait_s is None and (at := _http_date(text)) is not None:
            wait_s = at - now
    return None if wait_s is None else min(max(wait_s, 0.0), MAX_WAIT_S)


def _limits(
    *,
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    requests: _Window,
    tokens_left: int | None,
    tokens_reset_s: float | None,
) -> RateLimits | None:
    limits = RateLimits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        requests_left=requests.left,
        requests_reset_s=requests.reset_s,
        tokens_left=tokens_left,
        tokens_reset_s=tokens_reset_s,
    )
    return None if limits == _SILENCE else limits


_SILENCE = RateLimits()


def _rate(window: _Window) -> float | None:
    """Return the limit per minute; a limit of nothing is garbage, since a request was just answered."""
    return float(window.limit) if window.limit else None


def _openai_window(headers: Mapping[str, str], what: str) -> _Window:
    return _Window(
        _count(headers.get(f"x-ratelimit-limit-{what}")),
        _count(headers.get(f"x-ratelimit-remaining-{what}")),
        _duration_s(headers.get(f"x-ratelimit-reset-{what}")),
    )


def _is_of_a_day(window: _Window) -> bool:
    limit, left, reset_s = window
    if limit is None or reset_s is None:
        return False
    if reset_s > MINUTE_S + 1:  # some servers round up to a second
        return True
    used = limit - left if left is not None else 0
    # Near a day, not only above a minute: a window that ends on the minute has any quotient below it.
    return used > 0 and abs(reset_s * limit / used - DAY_S) < 0.1 * DAY_S


def _anthropic_window(headers: Mapping[str, str], what: str, now: float) -> _Window:
    name = f"anthropic-ratelimit-{what}"
    return _Window(
        _count(headers.get(f"{name}-limit")),
        _count(headers.get(f"{name}-remaining")),
        _until_s(headers.get(f"{name}-reset"), now),
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def _duration_s(text: str | None) -> float | None:
    """Return the seconds in texts such as 6ms, 1m12s, 8h0m2.5s, or in a plain number."""
    if text is None:
        return None
    if _DURATION.fullmatch(text):
        seconds = sum(float(count) * _UNITS_S[unit] for count, unit in _DURATION_PART.findall(text))
        return _near(seconds)
    return _near(_number(text))


def _until_s(text: str | None, now: float) -> float | None:
    """Return the seconds from now to an RFC 3339 time, 0 where it is past."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if at.tzinfo is None else _near(max(at.timestamp() - now, 0.0))


def _near(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 <= seconds <= MAX_RESET_S else None


def _http_date(text: str | None) -> float | None:
    try:
        parsed = parsedate_tz(text or "")
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
