"""The Alpaca template, typed here a second time: the same string in training and in generation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.corpus.template import render_prompt

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}"
    "\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)


def test_with_an_input() -> None:
    assert render_prompt("Add the numbers.", "2, 3") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd the numbers."
        "\n\n### Input:\n2, 3\n\n### Response:"
    )


def test_without_an_input() -> None:
    expected = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the"
        " request.\n\n### Instruction:\nSay hello.\n\n### Response:"
    )
    assert render_prompt("Say hello.") == expected
    assert render_prompt("Say hello.", "") == expected


@pytest.mark.parametrize(
    ("instruction", "input"),
    [
        ("Fill in {input} here.", "x"),
        ("{instruction}", "{instruction}"),
        ("{input}", "{input}"),
        ("Fill in {input} and {instruction}.", ""),
        ("{", "}"),
        ("{0} {} {{x}} %s \\1 \\g<0>", "{0} {} {{x}} %s \\1"),
        ("### Response:", "### Input:\n### Response:"),
    ],
)
def test_braces_in_a_row_are_plain_text(instruction: str, input: str) -> None:
    before, after = (WITH_INPUT if input else WITHOUT_INPUT).split("{instruction}")
    between, end = after.split("{input}") if input else (after, "")
    assert render_prompt(instruction, input) == before + instruction + between + input + end


@settings(deadline=None, derandomize=True)
@given(st.text(), st.text())
def test_any_text_stands_in_the_prompt_to_the_letter(instruction: str, input: str) -> None:
    prompt = render_prompt(instruction, input)
    assert prompt.endswith("\n\n### Response:")
    middle = (
        f"### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n" if input else f"\n{instruction}\n\n"
    )
    assert middle in prompt
    frame = (WITH_INPUT if input else WITHOUT_INPUT).replace("{instruction}", "").replace("{input}", "")
    assert len(prompt) == len(frame) + len(instruction) + len(input)
