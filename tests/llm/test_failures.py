"""What a failed request means; an endpoint may say anything, and the key is never in what we repeat."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.llm.chat import EndpointError, ReplyError
from alpagasus_ray.llm.failures import MAX_WORDS, failure_of, one_line, rejection_of

KEY = "sk-proj-verysecret0123456789"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(KEY),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "param", "detail"]), inner)
    ),
)


@pytest.mark.parametrize("before", range(MAX_WORDS - len(KEY) - 1, MAX_WORDS + 1))
def test_a_key_at_the_cut_of_long_words_is_not_repeated_in_part(before: int) -> None:
    assert "sk-" not in one_line("x" * before + KEY, KEY)


def test_a_key_of_two_words_is_not_repeated() -> None:
    assert "secret" not in one_line("the key very   \n secret is wrong", "very secret")


@given(st.integers(400, 599), JSON)
def test_whatever_the_body_a_failure_is_one_short_line_without_the_key(status: int, body: Any) -> None:
    found = failure_of(rejection_of(status, body, KEY, None), "http://judge", "model")
    assert str(found)
    assert "\n" not in str(found)
    assert "verysecret" not in str(found)
    assert len(str(found)) < MAX_WORDS + 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "Of OpenAI.", "code": None}}, "Of OpenAI."),
        ({"message": "Of the SDK.", "code": 400}, "Of the SDK."),
        ({"error": "In one text."}, "In one text."),
        ("<html>Bad\n gateway</html>", "<html>Bad gateway</html>"),
        ({"detail": "Of FastAPI."}, "{'detail': 'Of FastAPI.'}"),
        (None, "status 500"),
        ("", "status 500"),
        ({}, "status 500"),
        (" \n", "status 500"),
    ],
)
def test_the_endpoints_words_are_found_wherever_it_puts_them(body: object, words: str) -> None:
    assert rejection_of(500, body, KEY, None).words == words


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota."}),
        (429, {"code": "billing_not_active", "message": "Your account is not active."}),
        (400, {"code": "billing_hard_limit_reached", "message": "Billing hard limit has been reached"}),
        (402, {"type": "billing_error", "message": "There is an issue with your billing."}),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low to access it."}),
        (
            400,
            {"type": "invalid_request_error", "message": "You have reached your specified API usage limits"},
        ),
    ],
)
def test_an_account_without_money_ends_everything(status: int, error: dict[str, str]) -> None:
    found = failure_of(rejection_of(status, {"error": error}, KEY, None), "http://judge", "model")
    assert isinstance(found, EndpointError)
    assert error["message"] in str(found)
    assert "quota is used up" in str(found)


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model.", "temperature"),
        ("temperature: range: 0..1", "temperature"),
        ("`top_p` is not supported by this model.", "top_p"),
    ],
)
def test_a_setting_that_anthropics_model_does_not_take_is_named(words: str, setting: str) -> None:
    error = {"type": "invalid_request_error", "message": words}
    found = failure_of(rejection_of(400, {"error": error}, KEY, None), "http://judge", "model")
    assert isinstance(found, EndpointError)
    assert f"set {setting} to null in the recipe's section of this judge" in str(found)


def test_words_of_another_setting_are_a_refused_request() -> None:
    error = {
        "type": "invalid_request_error",
        "message": "max_tokens: 9 > 8, the maximum for the temperature.",
    }
    found = failure_of(rejection_of(400, {"error": error}, KEY, None), "http://judge", "model")
    assert isinstance(found, ReplyError)
    assert found.kind == "refused request"
