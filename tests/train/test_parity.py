"""The last look before a card is taken: prompts are served in the tokens that they were trained in."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import processors

from alpagasus_ray.corpus.row_forms import ALPACA
from alpagasus_ray.errors import UserError
from alpagasus_ray.train.parity import SAMPLE_SIZE, check_parity
from tests.train.small_tokenizers import CHATML, LLAMA2, fast_tokenizer
from tests.train.test_examples import ROWS, TinyTokenizer

MANY = [{"instruction": f"Add {number}.", "input": "", "output": "x"} for number in range(4 * SAMPLE_SIZE)]


def processed(single: str) -> TinyTokenizer:
    """A tokenizer that adds special tokens around every text."""
    tokenizer = TinyTokenizer()
    marks = [("<bos>", tokenizer.bos_token_id), ("<eos>", tokenizer.eos_token_id)]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return tokenizer


def check(tokenizer: Any, served: Any = None, rows: Any = ROWS, template: str = "alpaca") -> None:
    check_parity(rows, ALPACA, template, tokenizer, served or tokenizer, 0)


def refused(*args: Any, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        check(*args, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("tokenizer", [TinyTokenizer(), TinyTokenizer(bos=True), TinyTokenizer(True, True)])
def test_tokenizers_that_add_nothing_or_one_bos_pass(tokenizer: TinyTokenizer) -> None:
    check(tokenizer)
    check(tokenizer, rows=[])


def test_a_tokenizer_that_ends_every_text_is_told_with_the_row_and_the_ids() -> None:
    tokenizer = processed("<bos> $A <eos>")
    told = refused(tokenizer)
    assert told.startswith("row 1 of train.json") and "add_eos_token" in told
    assert f"{tokenizer.eos_token_id} (ids around place" in told


def test_a_doubled_bos_is_told() -> None:
    tokenizer = processed("<bos> <bos> $A")
    assert f"two BOS ({tokenizer.bos_token_id} {tokenizer.bos_token_id} " in refused(tokenizer)


def test_a_tokenizer_that_comes_back_another_is_told() -> None:
    told = refused(TinyTokenizer(bos=True), TinyTokenizer(bos=False))
    assert "row 1 of" in told and "place 0" in told and "does not survive being saved" in told


def test_the_first_row_that_differs_is_named_and_the_longest_is_always_looked_at() -> None:
    class Shortened(TinyTokenizer):
        def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
            return {"input_ids": super().__call__(text, add_special_tokens)["input_ids"][:300]}

    rows = [*MANY, {"instruction": "Äpfel 🍐 " * 200, "input": "", "output": "x"}, *MANY]
    told = refused(TinyTokenizer(), Shortened(), rows=rows)
    assert told.startswith(f"row {len(MANY) + 1} of train.json") and "place 300" in told
    check(TinyTokenizer(), Shortened(), rows=MANY)


def test_rows_without_an_output_are_left_to_others() -> None:
    check(TinyTokenizer(), rows=[{"instruction": "Add.", "input": "", "output": " "}, *ROWS])


@pytest.mark.slow
@pytest.mark.parametrize("template", [CHATML, LLAMA2])
def test_a_chat_template_with_its_own_bos_is_not_doubled(template: str) -> None:
    check(fast_tokenizer(template), template="chat")


@pytest.mark.slow
def test_a_chat_template_that_doubles_bos_or_changes_is_told() -> None:
    assert "two BOS" in refused(fast_tokenizer("{{ bos_token }}" + LLAMA2), template="chat")
    told = refused(fast_tokenizer(CHATML), fast_tokenizer(LLAMA2), template="chat")
    assert "the chat template" in told
