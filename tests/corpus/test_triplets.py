"""What counts as a row of instruction data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alpagasus_ray.corpus.row_forms import RejectedRowError
from alpagasus_ray.corpus.triplets import Triplet, parse_triplet, triplet_id

GOOD = {"instruction": "Name a fruit.", "input": "", "output": "An apple."}
TEXTS = st.tuples(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4))


def test_a_good_row_keeps_its_texts_to_the_letter() -> None:
    row = {"instruction": " Name\n a fruit. ", "input": "\tred ", "output": "An apple. \n"}
    triplet = parse_triplet(row)
    assert (triplet.instruction, triplet.input, triplet.output) == (
        row["instruction"],
        row["input"],
        row["output"],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("text", "row is not an object"),
        (None, "row is not an object"),
        (["Name a fruit.", "", "An apple."], "row is not an object"),
        ({}, "instruction is missing"),
        ({**GOOD, "instruction": None}, "instruction is missing"),
        ({**GOOD, "instruction": ""}, "instruction is empty"),
        ({**GOOD, "instruction": " \n\t\u00a0"}, "instruction is empty"),
        ({**GOOD, "instruction": 5}, "instruction is not a string"),
        ({**GOOD, "input": 5}, "input is not a string"),
        ({**GOOD, "input": float("nan")}, "input is not a string"),
        ({**GOOD, "input": ["a"]}, "input is not a string"),
        ({"instruction": "Name a fruit.", "input": ""}, "output is missing"),
        ({**GOOD, "output": None}, "output is missing"),
        ({**GOOD, "output": ""}, "output is empty"),
        ({**GOOD, "output": "\u3000"}, "output is empty"),
        ({**GOOD, "output": {"text": "An apple."}}, "output is not a string"),
        ({**GOOD, "output": True}, "output is not a string"),
        ({**GOOD, "output": float("nan")}, "output is not a string"),
        ({"Instruction": "Name a fruit.", "output": "An apple."}, "instruction is missing"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(row: Any, reason: str) -> None:
    with pytest.raises(RejectedRowError) as caught:
        parse_triplet(row)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "row", [{**GOOD, "input": None}, {"instruction": "Name a fruit.", "output": "An apple."}]
)
def test_a_missing_input_is_an_empty_one(row: dict[str, Any]) -> None:
    assert parse_triplet(row) == parse_triplet(GOOD)


@pytest.mark.parametrize(
    ("category", "kept"), [("qa", "qa"), ("", None), (None, None), (5, None), (["qa"], None)]
)
def test_a_category_is_a_text_or_none(category: Any, kept: str | None) -> None:
    assert parse_triplet({**GOOD, "category": category}).category == kept


def test_the_id_hangs_on_the_content_alone() -> None:
    dressed_up = {
        "output": "An apple.",
        "extra": 1,
        "category": "qa",
        "input": "",
        "instruction": "Name a fruit.",
    }
    assert parse_triplet(dressed_up).id == parse_triplet(GOOD).id


def test_the_id_never_changes() -> None:
    """Reviews of earlier runs are found by it."""
    assert triplet_id("Name a fruit.", "", "An apple.") == "7b3e9cb52328d2b8004658b0f7f16a83"


@settings(deadline=None, derandomize=True)
@given(TEXTS, TEXTS)
def test_other_content_has_another_id(one: tuple[str, str, str], two: tuple[str, str, str]) -> None:
    assert (triplet_id(*one) == triplet_id(*two)) is (one == two)


@settings(deadline=None, derandomize=True)
@given(st.text(min_size=2, max_size=6), st.data())
def test_a_text_that_moves_to_the_next_field_is_other_content(text: str, data: st.DataObject) -> None:
    one, two = (data.draw(st.integers(0, len(text))) for _ in range(2))
    assume(one != two)
    ids = {triplet_id(text[:cut], text[cut:], "x") for cut in (one, two)}
    assert len(ids) == 2


def test_half_a_character_has_an_id() -> None:
    assert len(triplet_id("\ud83d", "", "x")) == 32


def test_a_triplet_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Triplet("id", "a", "b", "c").output = "d"  # type: ignore[misc]
