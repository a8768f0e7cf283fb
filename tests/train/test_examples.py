"""From rows to tokens: the loss sees the answer and its end, and nothing of the prompt."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.train.examples import Example, build_examples

ROWS = [
    {"instruction": "Name a fruit.", "input": "", "output": "An apple."},
    {"instruction": "Add the numbers.", "input": "two and three", "output": "\nFive.\n"},
    {"instruction": "Fill in {input}.", "output": "Äpfel 🍐 </s> ### Response:"},
    {"instruction": "Say which day is after Friday.", "input": None, "output": "Saturday", "id": 3},
]


class TinyTokenizer:
    """What is used of a Hugging Face tokenizer, over a byte-level BPE of a few words."""

    def __init__(self, bos: bool = False, merges_spaces: bool = False) -> None:
        self._tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merges_spaces)
        self._tokenizer.pre_tokenizer = split
        self._tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<eos>", "<bos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = [render_prompt(row["instruction"], row.get("input") or "") + row["output"] for row in ROWS]
        self._tokenizer.train_from_iterator(texts * 5, trainer)
        self.eos_token_id: int = self._tokenizer.token_to_id("<eos>")
        self.bos_token_id: int = self._tokenizer.token_to_id("<bos>")
        if bos:
            self._tokenizer.post_processor = processors.TemplateProcessing(
                single="<bos> $A", special_tokens=[("<bos>", self.bos_token_id)]
            )

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def decode(self, ids: tuple[int, ...]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


@pytest.fixture(scope="module")
def tokenizer() -> TinyTokenizer:
    return TinyTokenizer()


def build(rows: list[dict[str, Any]], tokenizer: TinyTokenizer, max_length: int = 512) -> list[Example]:
    examples, dropped = build_examples(rows, tokenizer, max_length)
    assert dropped == {}
    return examples


@pytest.mark.parametrize("row", ROWS)
def test_a_prompt_is_masked_and_the_answer_ends_in_eos(tokenizer: TinyTokenizer, row: dict[str, Any]) -> None:
    (example,) = build([row], tokenizer)
    cut = example.num_prompt_tokens
    assert tokenizer.decode(example.input_ids[:cut]) == render_prompt(
        row["instruction"], row.get("input") or ""
    )
    assert tokenizer.decode(example.input_ids[cut:]) == f"{row['output']}<eos>"
    assert example.input_ids[-1] == tokenizer.eos_token_id
    assert example.input_ids.count(tokenizer.eos_token_id) == 1
    assert example.num_target_tokens == len(example.input_ids) - cut


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("merges_spaces", [False, True])
def test_the_prompts_tokens_are_those_of_generation(
    row: dict[str, Any], bos: bool, merges_spaces: bool
) -> None:
    """Where a token would span the border, training on it would be training on what never comes."""
    tokenizer = TinyTokenizer(bos, merges_spaces)
    (example,) = build([row], tokenizer)
    asked = tokenizer(render_prompt(row["instruction"], row.get("input") or ""))["input_ids"]
    assert list(example.input_ids[: example.num_prompt_tokens]) == asked
    assert example.input_ids.count(tokenizer.bos_token_id) == int(bos)
    assert tokenizer.decode(example.input_ids[len(asked) :]) == f"{row['output']}<eos>"


def test_the_rows_keep_their_order(tokenizer: TinyTokenizer) -> None:
    assert build(ROWS, tokenizer) == [build([row], tokenizer)[0] for row in ROWS]


def test_a_row_without_the_field_input_is_one_with_an_empty_one(tokenizer: TinyTokenizer) -> None:
    row = {"instruction": "Name a fruit.", "output": "An apple."}
    assert (
        build([row], tokenizer)
        == build([{**row, "input": ""}], tokenizer)
        == build([{**row, "input": None}], tokenizer)
    )


def test_a_prompt_that_fills_the_length_is_dropped_and_counted(tokenizer: TinyTokenizer) -> None:
    long_prompt = {"instruction": "Name a fruit. " * 50, "input": "", "output": "An apple."}
    examples, dropped = build_examples([ROWS[0], long_prompt, ROWS[3], long_prompt], tokenizer, 128)
    assert examples == build([ROWS[0], ROWS[3]], tokenizer)
    assert dropped == {"prompt fills max_length_tokens": 2}


def test_rows_with_an_empty_target_are_dropped_and_counted_and_stop_no_other(
    tokenizer: TinyTokenizer,
) -> None:
    empty = [{**ROWS[0], "output": text} for text in ("", " \n")]
    examples, dropped = build_examples([empty[0], *ROWS, empty[1], {"instruction": "Add."}], tokenizer, 512)
    assert examples == build(ROWS, tokenizer)
    assert dropped == {"output is empty": 2, "output is missing": 1}


@pytest.mark.parametrize("room", range(-2, 8))
def test_at_the_edge_at_least_one_token_is_trained_on(tokenizer: TinyTokenizer, room: int) -> None:
    (whole,) = build(ROWS[:1], tokenizer)
    examples, dropped = build_examples(ROWS[:1], tokenizer, whole.num_prompt_tokens + room)
    if room <= 0:
        assert (examples, dropped) == ([], {"prompt fills max_length_tokens": 1})
        return
    (example,) = examples
    assert example.input_ids == whole.input_ids[: whole.num_prompt_tokens + room]
    assert example.num_prompt_tokens == whole.num_prompt_tokens
    assert 1 <= example.num_target_tokens <= room


def test_nothing_is_longer_than_the_length(tokenizer: TinyTokenizer) -> None:
    long_answer = {"instruction": "Count.", "input": "", "output": "one two three " * 500}
    (example,) = build([long_answer], tokenizer, 128)
    assert len(example.input_ids) == 128
    assert tokenizer.eos_token_id not in example.input_ids, "an answer that was cut has no end to learn"


def test_no_rows_give_no_examples(tokenizer: TinyTokenizer) -> None:
    assert build_examples([], tokenizer, 128) == ([], {})
