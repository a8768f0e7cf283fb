"""Answers as files: what is written is read back, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.corpus.answers import Answer, answers_from_jsonl, answers_to_jsonl, read_answer_folder
from alpagasus_ray.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANSWERS = st.lists(
    st.builds(
        Answer,
        prompt_id=TEXT,
        model_id=TEXT,
        prompt=TEXT,
        category=st.none() | TEXT,
        text=TEXT | st.sampled_from(["a\u2028b\u2029c", "a\r\nb", "\x85", "### Response:", "\0"]),
        finish_reason=st.sampled_from(["stop", "length"]),
    ),
    max_size=4,
    unique_by=lambda answer: answer.prompt_id,
)


@settings(deadline=None, derandomize=True)
@given(ANSWERS)
def test_what_is_written_is_read_back(answers: list[Answer]) -> None:
    assert list(answers_from_jsonl(answers_to_jsonl(answers), "x").values()) == answers


@settings(deadline=None, derandomize=True)
@given(ANSWERS)
def test_each_answer_is_one_line(answers: list[Answer]) -> None:
    text = answers_to_jsonl(answers)
    assert text.count("\n") == len(answers)
    assert "".join(f"{line}\n" for line in text.split("\n")[:-1]) == text


def test_the_fields_are_those_that_scripts_read() -> None:
    line = answers_to_jsonl([Answer("koala_0", "full", "Hi?", None, "Hello.", "stop")])
    row = json.loads(line)
    assert {name: row[name] for name in ("id", "prompt", "category", "answer", "finish_reason")} == {
        "id": "koala_0",
        "prompt": "Hi?",
        "category": None,
        "answer": "Hello.",
        "finish_reason": "stop",
    }


def test_somebody_elses_answers_need_only_id_prompt_and_answer() -> None:
    read = answers_from_jsonl('{"id": 1, "prompt": "Hi?", "answer": "Hello."}\r\n\n', "x")
    assert read == {"1": Answer("1", "", "Hi?", None, "Hello.", "stop")}


@pytest.mark.parametrize(
    "line",
    [
        "{oops",
        "5",
        "null",
        "[]",
        '{"prompt": "a", "answer": "b"}',
        '{"id": 1, "answer": "b"}',
        '{"id": 1, "prompt": "a"}',
        '{"id": 1, "prompt": "a", "answer": null}',
        '{"id": 1, "prompt": "a", "answer": 5}',
        '{"id": 1, "prompt": ["a"], "answer": "b"}',
        '{"id": null, "prompt": "a", "answer": "b"}',
        '{"id": 1, "prompt": "a", "answer": "half a \\ud83d"}',
        '{"id": "good", "prompt": "a", "answer": "b"}',
    ],
)
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(UserError) as caught:
        answers_from_jsonl('{"id": "good", "prompt": "a", "answer": "b"}\n' + line, "full/koala.jsonl")
    assert "full/koala.jsonl, line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_category_that_is_no_text_is_refused_or_left_out() -> None:
    """Verdicts hold texts: it would stop the comparison after every judgment has been paid for."""
    try:
        (answer,) = answers_from_jsonl('{"id": 1, "prompt": "a", "answer": "b", "category": 5}', "x").values()
    except UserError as error:
        assert "line 1" in str(error)
    else:
        assert answer.category in (None, "5")


def test_a_folder_holds_one_file_a_test_set(tmp_path: Path) -> None:
    (tmp_path / "koala.jsonl").write_text('\ufeff{"id": 1, "prompt": "a", "answer": "b"}\n', encoding="utf-8")
    (tmp_path / "vicuna.jsonl").write_text("")
    (tmp_path / "_manifest.json").write_text("{}")
    read = read_answer_folder(tmp_path)
    assert set(read) == {"koala", "vicuna"}
    assert read["koala"]["1"].text == "b"


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x")]
)
def test_a_folder_without_answers_is_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "answers")  # type: ignore[operator]
    with pytest.raises(UserError, match="answers"):
        read_answer_folder(tmp_path / "answers")
