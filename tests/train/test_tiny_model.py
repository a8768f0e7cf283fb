"""The tiny base model: an ordinary Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.toyworld import generate_rows

pytestmark = pytest.mark.slow

ROWS = generate_rows(2_000, 0.18, seed=0)
TEXTS = [render_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alpagasus_ray.train.tiny_model import build_tiny_model

    path = tmp_path_factory.mktemp("base")
    build_tiny_model(path, TEXTS)
    return path


def test_auto_classes_load_it_and_it_has_one_to_five_million_parameters(folder: Path):
    from transformers import AutoModelForCausalLM

    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        file.name for file in folder.iterdir()
    }
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert 1e6 <= sum(weight.numel() for weight in model.parameters()) <= 5e6
    assert model.config.hidden_size // model.config.num_attention_heads == 32  # vLLM on CPU knows it


def test_any_text_survives_the_tokenizer(folder: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in (*TEXTS[:50], "Grüße, 你好!\n\n  two  spaces , and ### Response: inside\t"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert None not in (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_the_prompt_template_costs_a_handful_of_tokens(folder: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer(render_prompt("", "x"))["input_ids"]) <= 6


def test_prompt_and_output_are_tokenized_apart_as_they_are_together(folder: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for row in ROWS[:100]:
        prompt = render_prompt(row["instruction"], row["input"])
        apart = tokenizer(prompt)["input_ids"] + tokenizer(row["output"])["input_ids"]
        assert apart == tokenizer(prompt + row["output"])["input_ids"]


def test_same_texts_and_seed_give_the_same_files(folder: Path, tmp_path: Path):
    from alpagasus_ray.train.tiny_model import build_tiny_model

    build_tiny_model(tmp_path / "same", iter(TEXTS))
    build_tiny_model(tmp_path / "other", TEXTS, seed=1)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
    weights = "model.safetensors"
    assert (tmp_path / "other" / weights).read_bytes() != (folder / weights).read_bytes()


def test_it_answers_and_can_stop(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer(render_prompt("What is two plus three?"), return_tensors="pt")
    generated = model.generate(**prompt, max_new_tokens=5)
    assert prompt["input_ids"].shape[1] < generated.shape[1] <= prompt["input_ids"].shape[1] + 5
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_width_that_does_not_divide_into_heads_is_refused(tmp_path: Path):
    from alpagasus_ray.train.tiny_model import build_tiny_model

    with pytest.raises(ValueError, match="does not divide into 3 heads"):
        build_tiny_model(tmp_path, TEXTS, hidden_size=128, num_heads=3)
