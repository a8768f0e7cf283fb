"""What a training goes through: counted on a sample, dealt out as the loop deals it out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.workload import (
    DEALT_STEPS,
    SAMPLE_SIZE,
    count_examples,
    read_tokenizer,
    workload_of,
)


class Words:
    """A token for each word, and an EOS that no text holds."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1 + len(word) for word in text.split()]}


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    return [{"instruction": "Count.", "input": "", "output": "one " * length} for length in lengths]


PROMPT_WORDS = 21
"""Of Alpaca's template without an input, and of the instruction."""


def workload(lengths: list[int], **settings: Any) -> Any:
    made = TrainSettings.model_validate(settings)
    return workload_of(count_examples(rows(lengths), Words(), made.max_length_tokens), made)


@pytest.mark.parametrize(("workers", "micro", "accumulation"), [(4, 4, 8), (8, 2, 8), (1, 4, 32), (2, 8, 8)])
def test_the_accumulation_follows_from_workers_and_micro_batches(
    workers: int, micro: int, accumulation: int
) -> None:
    """The global batch stays: the paper's three ways to have 128 rows, and another."""
    work = workload([10] * 512, workers=workers, micro_batch_size=micro, packing=False)
    assert (work.steps_per_epoch, work.passes_per_step) == (4, accumulation)
    assert (work.sequences_per_pass, work.is_packed) == (micro, False)


def test_tokens_are_prompts_targets_and_an_eos_each() -> None:
    work = workload([10] * 100, packing=False)
    assert (work.tokens, work.target_tokens) == (100 * (PROMPT_WORDS + 11), 100 * 11)
    assert work.padded_tokens == work.tokens, "all are of one length"
    assert work.attended_tokens == 100 * (PROMPT_WORDS + 11) ** 2
    assert work.largest_pass.tokens == 4 * (PROMPT_WORDS + 11)


def test_packs_take_fewer_passes_and_lose_no_token() -> None:
    alone, packed = (workload([10] * 512, packing=packing) for packing in (False, None))
    assert packed.is_packed and packed.passes_per_step < alone.passes_per_step / 4
    assert packed.tokens == alone.tokens
    assert packed.largest_pass.tokens > 4 * 480


def test_a_large_arm_is_counted_on_a_sample_and_scaled() -> None:
    lengths = [5 + number % 50 for number in range(3 * SAMPLE_SIZE)]
    work = workload(lengths, packing=False, workers=1, global_batch_size=16)
    assert (work.rows, work.counted_rows) == (3 * SAMPLE_SIZE, SAMPLE_SIZE)
    assert work.steps_per_epoch == math.ceil(3 * SAMPLE_SIZE / 16) > DEALT_STEPS
    assert work.target_tokens == pytest.approx(sum(length + 1 for length in lengths), rel=0.01)
    assert work.tokens <= work.padded_tokens < 1.2 * work.tokens


def test_rows_whose_prompt_fills_the_length_are_dropped_in_proportion() -> None:
    made = TrainSettings(max_length_tokens=64)
    long = {"instruction": "word " * 100, "input": "", "output": "x"}
    counted = count_examples([*rows([3] * 300), *[long] * 100], Words(), 64)
    work = workload_of(counted, made)
    assert (work.rows, work.dropped_rows) == (400, 100)
    with pytest.raises(UserError, match="max_length_tokens"):
        count_examples([long], Words(), 64)


def test_rows_that_are_held_out_take_no_steps() -> None:
    whole, held = (workload([10] * 1000, global_batch_size=100, validation_share=share) for share in (0, 0.1))
    assert (whole.validation_rows, whole.steps_per_epoch) == (0, 10)
    assert (held.rows, held.dropped_rows, held.validation_rows, held.steps_per_epoch) == (1000, 0, 100, 9)
    assert held.target_tokens == pytest.approx(0.9 * whole.target_tokens)


@pytest.mark.slow
def test_the_tokenizers_file_counts_as_transformers_does(tiny_model: Path) -> None:
    from alpagasus_ray.train.models import load_tokenizer

    own = read_tokenizer(tiny_model / "tokenizer.json", tiny_model / "tokenizer_config.json")
    theirs = load_tokenizer(str(tiny_model))
    assert own.eos_token_id == theirs.eos_token_id
    for text in ("Name a fruit.", "### Response:\n", "An apple: ä, 漢字."):
        assert own(text)["input_ids"] == theirs(text)["input_ids"]


@pytest.mark.parametrize(("config", "says"), [({}, "no EOS"), ({"eos_token": "</s>"}, "cannot be read")])
def test_a_tokenizer_that_is_none_is_told_in_one_line(
    config: dict[str, str], says: str, tmp_path: Path
) -> None:
    from tokenizers import Tokenizer, models

    file, beside = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(file))
    beside.write_text(json.dumps(config))
    if "eos_token" in config:
        file.write_text("{}")
    with pytest.raises(UserError, match=says) as caught:
        read_tokenizer(file, beside)
    assert "\n" not in str(caught.value)
