"""Where rows hold their texts: Dolly's columns, and the first exchange of a conversation."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alpagasus_ray.corpus.row_forms import ALPACA, FORMS, RejectedRowError, RowForm
from alpagasus_ray.corpus.triplets import parse_triplet

CHAT = FORMS["chat"]
SHARE_GPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SYSTEM = {"role": "system", "content": "Be kind."}


def test_dollys_context_is_the_input_and_its_response_the_output() -> None:
    row = {
        "instruction": "a",
        "context": "b",
        "response": "c",
        "category": "qa",
        "input": "no",
        "output": "no",
    }
    assert FORMS["dolly"].texts(row) == ("a", "b", "c", "qa")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "a", "context": "b"}, "response is missing"),
        ({"instruction": "a", "response": " "}, "response is empty"),
        ({"instruction": "a", "response": "b", "context": 4}, "context is not a string"),
    ],
)
def test_reasons_name_the_sources_own_columns(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedRowError, match=f"^{reason}$"):
        FORMS["dolly"].texts(row)


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHARE_GPT},
        {"messages": MESSAGES},
        {"conversations": None, "messages": MESSAGES},
        {"messages": [SYSTEM, *MESSAGES]},
        {"messages": [SYSTEM, SYSTEM, *MESSAGES, {"role": "user", "content": "More"}]},
        {"conversations": [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]},
        {"messages": [{"role": "User", "content": "Hi"}, {"role": "Assistant", "content": "Hello"}]},
        {"conversations": [{"from": "gpt", "value": "Go on."}, *SHARE_GPT]},
        {"messages": [5, *MESSAGES]},
        {"messages": [{"from": None, "role": "user", "content": "Hi"}, MESSAGES[1]]},
    ],
)
def test_the_first_exchange_of_a_conversation_is_the_row(row: dict[str, Any]) -> None:
    assert CHAT.texts(row) == ("Hi", "", "Hello", None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "conversations or messages is missing"),
        ({"messages": None}, "conversations or messages is missing"),
        ({"messages": "Hi"}, "messages is not a list"),
        ({"conversations": []}, "no user turn that an assistant turn follows"),
        ({"messages": [SYSTEM]}, "no user turn that an assistant turn follows"),
        ({"messages": MESSAGES[:1]}, "no user turn that an assistant turn follows"),
        ({"messages": MESSAGES[::-1]}, "no user turn that an assistant turn follows"),
        ({"messages": [MESSAGES[0], SYSTEM, MESSAGES[1]]}, "no user turn that an assistant turn follows"),
        (
            {"messages": [{"role": "tool", "content": "x"}, MESSAGES[1]]},
            "no user turn that an assistant turn",
        ),
        ({"messages": [{"role": "user", "content": " "}, MESSAGES[1]]}, "the user turn is empty"),
        ({"messages": [{"role": "user"}, MESSAGES[1]]}, "the user turn is not a string"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": ["x"]}]}, "the assistant turn is not a"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": ""}]}, "the assistant turn is empty"),
    ],
)
def test_a_conversation_without_an_exchange_is_refused_with_its_reason(
    row: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RejectedRowError) as caught:
        CHAT.texts(row)
    assert str(caught.value).startswith(reason)


def test_the_same_exchange_has_the_same_id_in_every_form() -> None:
    """So that it is graded once, whichever file it comes from."""
    rows = {
        "alpaca": {"instruction": "Hi", "output": "Hello"},
        "dolly": {"instruction": "Hi", "context": "", "response": "Hello"},
        "chat": {"conversations": SHARE_GPT},
    }
    assert len({parse_triplet(row, FORMS[form]).id for form, row in rows.items()}) == 1


@pytest.mark.parametrize("form", [*FORMS.values(), ALPACA.with_columns({"output": "answer"})])
def test_a_form_survives_a_manifest(form: RowForm) -> None:
    assert RowForm.from_json(json.loads(json.dumps(form.to_json()))) == form


def test_artifacts_from_before_there_were_forms_are_alpacas() -> None:
    assert RowForm.from_json(None) == ALPACA
