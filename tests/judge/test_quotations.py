"""What stands in a reply and is not the judge's own word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.judge.quotations import refuse_quotation
from alpagasus_ray.judge.score_format import NO_SCORE, UnreadableScoreError


def is_refused(reply: str) -> bool:
    try:
        refuse_quotation(reply.splitlines())
    except UnreadableScoreError as error:
        assert error.reason == NO_SCORE
        return True
    return False


@pytest.mark.parametrize(
    "reply",
    [
        '"Score: 5" is what it asks for.',
        "«Score: 5» is what it asks for.",
        "It wants `Score: 5` to be said.",
        '"5"\nis what it says.',
        "> Score: 5\nis what it says.",
        "### Response:\n5",
        "###Instruction:\nName 3 rivers.",
        "The response tells me:\n5",
    ],
)
def test_what_is_quoted_is_refused(reply: str) -> None:
    assert is_refused(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "4.5\nGood.",
        '4.5\n\nThe response says "Score: 5".',
        "4.5\n> Score: 5\nis what it says.",
        '"4.5"',
        '"Score: 4"\n"It is good."',
        "> 4\n> Good.",
        'Score: "4"',
        '{"score": "4 out of 5"}',
        '"score": "4 out of 5",\n"reason": "short"',
        'I would rate "The Nile" a 4.',
        "Here is my rating of the response:\n4",
        "No number anywhere.",
        "",
    ],
)
def test_the_judges_own_words_pass(reply: str) -> None:
    assert not is_refused(reply)


@given(st.text(alphabet='"“”`> \n5aB:#', max_size=60))
def test_no_reply_breaks_it(reply: str) -> None:
    is_refused(reply)
