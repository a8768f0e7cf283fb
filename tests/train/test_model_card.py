"""The card tells facts: what the model was trained on and how, and how it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from alpagasus_ray.corpus.template import WITH_INPUT, WITHOUT_INPUT
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.job import TrainJob
from alpagasus_ray.train.model_card import base_model_hub_id, model_card

SUMMARY = {
    "examples": 9_229,
    "dropped": {"prompt fills max_length_tokens": 3},
    "target_tokens": 1_234_567,
    "parameters": 6_738_415_616,
    "trained_parameters": 6_738_415_616,
    "packing": True,
}
LAST = {"num_steps": 219, "loss": 0.98765, "validation_loss": None, "workers": 2}


def card(
    model: str = "meta-llama/Llama-2-7b-hf",
    chat_template: bool = True,
    last: dict[str, Any] = LAST,
    pad_token: str = "[PAD]",
    **train: Any,
) -> tuple[dict[str, Any], str]:
    """Return a card's front matter and its text."""
    job = TrainJob(
        model, "/runs/one/arms/filtered/train.json", "/runs/one/models/filtered", TrainSettings(**train)
    )
    text = model_card(job, SUMMARY, last, chat_template=chat_template, pad_token=pad_token)
    _, front, page = text.split("---\n", 2)
    assert "/runs/" not in text and "{{" not in text and "None" not in text
    return yaml.safe_load(front), page


def test_the_hub_reads_what_it_wants() -> None:
    front, _ = card()
    assert front["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert (front["library_name"], front["pipeline_tag"]) == ("transformers", "text-generation")
    assert "alpagasus" in front["tags"] and front["base_model_relation"] == "finetune"


def test_rows_steps_and_what_shaped_the_result_are_told() -> None:
    _, page = card(epochs=3, learning_rate=2e-5)
    for said in ("# filtered\n", "9,229", "3 left out (prompt fills max_length_tokens)", "1,234,567", "219"):
        assert said in page
    for said in ("0.9877 nats", "6,738,415,616", "| `learning_rate` | 2e-05 |", "| `epochs` | 3 |"):
        assert said in page
    assert "micro_batch_size" not in page, "how the work was dealt out shapes nothing"
    assert "inherits its license" in page


def test_how_it_was_trained_is_told_beside_what_shaped_it() -> None:
    _, page = card(strategy="deepspeed", last={**LAST, "validation_loss": 1.23456})
    assert "| loss of the rows held out | 1.2346 nats per target token |" in page
    assert "| trained by | deepspeed, 2 workers, rows packed |" in page
    assert "| padding token | `[PAD]` |" in page
    _, page = card(min_workers=1, pad_token="<|endoftext|>")
    assert "| trained by | fsdp, 2 workers at the end, rows packed |" in page
    assert "| padding token | `<\\|endoftext\\|>` |" in page, "a table's cells end at a bar"
    _, page = card(strategy="single", workers=1, last={**LAST, "workers": 1})
    assert "held out" not in page and "| trained by | single, 1 worker, rows packed |" in page


def test_the_prompt_and_the_ways_to_load_it_are_there() -> None:
    _, page = card()
    assert WITH_INPUT in page and WITHOUT_INPUT in page
    assert "vllm serve filtered\n" in page and "AutoModelForCausalLM.from_pretrained" in page
    assert "apply_chat_template" in page
    _, raw = card(chat_template=False)
    assert "apply_chat_template" not in raw and "### Response:\\n" not in raw and "no chat template" in raw
    _, chat = card(template="chat")
    assert WITHOUT_INPUT not in chat and "base model's own chat template" in chat


def test_the_code_on_the_card_is_python() -> None:
    for options in ({}, {"chat_template": False}, {"lora": {"merge": False}}):
        _, page = card(**options)
        code = page.split("```python\n")[1].split("```")[0]
        compile(code, "card", "exec")
        assert "\n\n\n" not in page


def test_adapters_alone_are_told_as_such() -> None:
    front, page = card(lora={"rank": 64, "merge": False})
    assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")
    assert "AutoPeftModelForCausalLM" in page and "| `lora.rank` | 64 |" in page
    assert (
        "vllm serve meta-llama/Llama-2-7b-hf --enable-lora --max-lora-rank 64 --lora-modules filtered="
        in page
    )
    merged, page = card(lora={"rank": 64})
    assert merged["base_model_relation"] == "finetune" and "peft" not in page and "lora" in merged["tags"]


def test_a_folder_is_named_without_its_path_and_no_hub_id_is_made_up(tmp_path: Path) -> None:
    folder = tmp_path / "llama-7b"
    folder.mkdir()
    front, page = card(str(folder))
    assert "base_model" not in front and "base_model_relation" not in front
    assert "`llama-7b`" in page and str(tmp_path) not in page


@pytest.mark.parametrize(
    ("model", "hub_id"),
    [
        ("gpt4life/alpagasus-7b", "gpt4life/alpagasus-7b"),
        ("/c/models--Qwen--Qwen2.5-0.5B/snapshots/060db6499f32", "Qwen/Qwen2.5-0.5B"),
        ("/nowhere/llama", None),
        ("llama", None),
    ],
)
def test_the_hubs_name_of_a_base_model_is_known_or_not(model: str, hub_id: str | None) -> None:
    assert base_model_hub_id(model) == hub_id
