"""Headers say how much may be asked; whatever stands in them, nothing breaks."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.llm.chat import RateLimits
from alpagasus_ray.llm.rate_limits import MAX_WAIT_S, anthropic_limits, openai_limits, retry_after_s

NOW = 1_760_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)


def openai_headers(what: str, limit: object, remaining: object, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": str(limit),
        f"x-ratelimit-remaining-{what}": str(remaining),
        f"x-ratelimit-reset-{what}": reset,
    }


def anthropic_headers(what: str, limit: object, remaining: object, reset_s: float) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{what}-limit": str(limit),
        f"anthropic-ratelimit-{what}-remaining": str(remaining),
        f"anthropic-ratelimit-{what}-reset": (AT + timedelta(seconds=reset_s)).isoformat(),
    }


def test_openais_own_example() -> None:
    """From platform.openai.com/docs/guides/rate-limits."""
    headers = {
        **openai_headers("requests", 60, 59, "1s"),
        **openai_headers("tokens", 150_000, 149_984, "6m0s"),
    }
    assert openai_limits({**headers, "x-ratelimit-reset-tokens": "6ms"}) == RateLimits(
        requests_per_minute=60,
        tokens_per_minute=150_000,
        requests_left=59,
        requests_reset_s=1.0,
        tokens_left=149_984,
        tokens_reset_s=0.006,
    )


@pytest.mark.parametrize(
    ("limit", "left", "reset"),
    [
        (10_000, 9_999, "8.64s"),  # OpenAI's first tier
        (14_400, 14_370, "2m59.56s"),  # Groq's own example
        (200, 100, "12h0m0s"),
        (200, 200, "7m12s"),
    ],
)
def test_a_limit_of_a_day_is_no_rate_per_minute(limit: int, left: int, reset: str) -> None:
    found = openai_limits(openai_headers("requests", limit, left, reset))
    assert found is not None
    assert found.requests_per_minute is None
    assert found.requests_left == left
    assert (found.requests_reset_s or 0) > 8


@pytest.mark.parametrize(
    ("limit", "left", "reset"),
    [
        (10_000, 9_999, "6ms"),
        (10_000, 9_999, "1s"),  # rounded up
        (10_000, 9_990, "45s"),  # the end of a fixed minute
        (500, 0, "60s"),
        (500, 500, "0s"),
        (3, 0, "59.9s"),
    ],
)
def test_a_limit_of_a_minute_is_its_rate(limit: int, left: int, reset: str) -> None:
    found = openai_limits(openai_headers("requests", limit, left, reset))
    assert found is not None
    assert found.requests_per_minute == limit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6ms", 0.006),
        ("1s", 1.0),
        ("1m12s", 72.0),
        ("8h0m2.5s", 28_802.5),
        ("500\u00b5s", 0.0005),
        ("12", 12.0),
        ("0.5", 0.5),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1s!", None),
        ("999h", None),
        ("\u0661s", None),
    ],
)
def test_resets_are_read_as_openai_writes_them(text: str, seconds: float | None) -> None:
    found = openai_limits({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": text})
    assert found is not None
    assert found.tokens_reset_s == (None if seconds is None else pytest.approx(seconds))


def test_anthropics_headers() -> None:
    headers = {
        **anthropic_headers("requests", 50, 49, 1.2),
        **anthropic_headers("tokens", 38_000, 19_000, 30),
        **anthropic_headers("input-tokens", 30_000, 18_000, 24),
        **anthropic_headers("output-tokens", 8_000, 800, 54),
    }
    assert anthropic_limits(headers, NOW) == RateLimits(
        requests_per_minute=50,
        tokens_per_minute=38_000,
        requests_left=49,
        requests_reset_s=pytest.approx(1.2),
        tokens_left=3_800,  # a tenth, like the output tokens
        tokens_reset_s=pytest.approx(54),
    )


def test_limits_of_input_and_output_alone_are_added() -> None:
    headers = {
        **anthropic_headers("input-tokens", 30_000, 30_000, 0),
        **anthropic_headers("output-tokens", 8_000, 0, 60),
    }
    found = anthropic_limits(headers, NOW)
    assert found is not None
    assert (found.tokens_per_minute, found.tokens_left, found.requests_per_minute) == (38_000, 0, None)


def test_a_reset_that_is_past_is_now() -> None:
    found = anthropic_limits(anthropic_headers("requests", 50, 50, -100), NOW)
    assert found is not None
    assert found.requests_reset_s == 0


@pytest.mark.parametrize("reset", ["2025-10-09T08:53:20", "tomorrow", "", "9999-12-31T23:59:59Z"])
def test_a_time_that_is_none_is_not_known(reset: str) -> None:
    headers = {**anthropic_headers("requests", 50, 5, 1), "anthropic-ratelimit-requests-reset": reset}
    found = anthropic_limits(headers, NOW)
    assert found is not None
    assert (found.requests_left, found.requests_reset_s) == (5, None)


def test_headers_that_say_nothing_of_limits_are_none() -> None:
    headers = {"content-type": "application/json", "x-request-id": "1"}
    assert openai_limits(headers) is None
    assert anthropic_limits(headers, NOW) is None
    assert retry_after_s(headers, NOW) is None


def test_a_limit_of_nothing_is_no_limit() -> None:
    """Nothing a minute would mean to wait for ever."""
    found = openai_limits(openai_headers("requests", 0, 0, "0s"))
    assert found is not None
    assert found.requests_per_minute is None


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": format_datetime(AT + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(AT - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after": format_datetime(AT + timedelta(days=90), usegmt=True)}, MAX_WAIT_S),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, MAX_WAIT_S),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_how_long_an_endpoint_asks_to_wait(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, NOW) == (None if wait_s is None else pytest.approx(wait_s))


NAMES = [
    "retry-after",
    "retry-after-ms",
    *openai_headers("requests", 0, 0, ""),
    *openai_headers("tokens", 0, 0, ""),
    *(
        name
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
        for name in anthropic_headers(what, 0, 0, 0)
    ),
]
VALUES = (
    st.text()
    | st.integers().map(str)
    | st.floats().map(str)
    | st.datetimes(timezones=st.sampled_from([UTC, None])).map(datetime.isoformat)
    | st.datetimes(timezones=st.just(UTC)).map(format_datetime)
    | st.from_regex(r"(\d{1,30}(\.\d)?(d|h|m|s|ms))+", fullmatch=True)
    | st.sampled_from(["Mon, 99 Jan 2025 99:99:99 GMT", "1 Jan 1 1 +9999999999", "0001-01-01T00:00:00+23:59"])
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES), st.floats(0, 1e11))
def test_garbage_breaks_nothing_and_says_nothing_absurd(headers: dict[str, str], now: float) -> None:
    wait_s = retry_after_s(headers, now)
    assert wait_s is None or 0 <= wait_s <= MAX_WAIT_S
    for limits in (openai_limits(headers), anthropic_limits(headers, now)):
        if limits is None:
            continue
        assert limits != RateLimits()
        for rate in (limits.requests_per_minute, limits.tokens_per_minute):
            assert rate is None or (rate > 0 and math.isfinite(rate))
        for left in (limits.requests_left, limits.tokens_left):
            assert left is None or left >= 0
        for reset_s in (limits.requests_reset_s, limits.tokens_reset_s):
            assert reset_s is None or 0 <= reset_s <= 2 * 86_400


@given(st.integers(1, 10**7), st.floats(0.001, 1))
def test_a_minutes_limit_that_refills_evenly_is_never_taken_for_a_days(limit: int, share: float) -> None:
    used = math.ceil(limit * share)
    reset = f"{used * 60 / limit:.3f}s"
    found = openai_limits(openai_headers("requests", limit, limit - used, reset))
    assert found is not None
    assert found.requests_per_minute == limit


@given(st.integers(1, 50_000), st.floats(0.001, 1))
def test_a_days_limit_that_refills_evenly_is_known_as_one(limit: int, share: float) -> None:
    used = math.ceil(limit * share)
    seconds = used * 86_400 / limit
    reset = f"{int(seconds // 3600)}h{int(seconds % 3600 // 60)}m{seconds % 60:.3f}s"
    found = openai_limits(openai_headers("requests", limit, limit - used, reset))
    assert found is not None
    assert found.requests_per_minute is None
