"""LoRA and QLoRA: adapters alone learn, and what is written answers as what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import LoraSettings, TrainSettings
from alpagasus_ray.train.adapters import adapter_weights, quantization_config, with_adapter
from alpagasus_ray.train.job import SUMMARY_FILE, TrainJob
from alpagasus_ray.train.metrics import read_metrics
from alpagasus_ray.train.models import load_model, load_tokenizer
from alpagasus_ray.train.worker import run_worker
from tests.train.checkpoints import forget

pytestmark = pytest.mark.slow
PROMPTS = ["Name a fruit.", "Sort these words: pear, apple.", "What is two and three?"]


def trained(base: Path, folder: Path, **lora: Any) -> Path:
    """Train adapters for a few steps in one process; return the folder that is written."""
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps(generate_rows(96, 0.5, 5)))
    settings = TrainSettings(
        strategy="single",
        workers=1,
        epochs=2,
        learning_rate=5e-3,
        global_batch_size=16,
        max_length_tokens=256,
        precision="fp32",
        lora=LoraSettings(rank=8, **lora),
    )

    job = TrainJob(str(base), str(folder / "train.json"), str(folder / "model"), settings)
    (folder / "model").mkdir()
    run_worker(job, None, forget)
    return folder / "model"


def logits_of(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return [model(**tokenizer(prompt, return_tensors="pt")).logits for prompt in PROMPTS]


def test_merged_and_unmerged_answer_alike(tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(str(tiny_model))
    whole, alone = (trained(tiny_model, tmp_path / str(merge), merge=merge) for merge in (True, False))
    assert (alone / "adapter_config.json").exists() and not (alone / "model.safetensors").exists()
    merged = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(load_model(str(tiny_model), tokenizer), str(alone))
    base = logits_of(load_model(str(tiny_model), tokenizer), tokenizer)
    for one, other, before in zip(
        logits_of(merged, tokenizer), logits_of(adapted, tokenizer), base, strict=True
    ):
        assert torch.allclose(one, other, atol=1e-3)
        assert (one - before).abs().max() > 0.1, "nothing was learnt"


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_alone_learn(tiny_model: Path, tmp_path: Path, quantization: str) -> None:
    folder = trained(tiny_model, tmp_path / "run", quantization=quantization)
    losses = [line["loss"] for line in read_metrics(folder / "metrics.jsonl")]
    assert losses[-1] < losses[0] - 0.5
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    assert 0 < summary["trained_parameters"] < 0.5 * summary["parameters"]

    from transformers import AutoModelForCausalLM

    before = load_model(str(tiny_model), load_tokenizer(str(tiny_model))).state_dict()
    after = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in after if "_proj." in name}, "all linear layers but the head"


def test_four_bits_are_four_bits(tiny_model: Path) -> None:
    settings = TrainSettings(
        strategy="single", workers=1, precision="fp32", lora=LoraSettings(quantization="nf4")
    )
    model = load_model(str(tiny_model), load_tokenizer(str(tiny_model)), quantization_config(settings))
    linear = model.model.layers[0].mlp.up_proj
    assert linear.weight.quant_state.quant_type == "nf4"
    assert linear.weight.quant_state.nested, "double quantisation"
    assert linear.weight.numel() * 2 == linear.in_features * linear.out_features


def test_a_new_adapter_changes_nothing(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    base = logits_of(load_model(str(tiny_model), tokenizer), tokenizer)
    adapted = with_adapter(load_model(str(tiny_model), tokenizer), LoraSettings(targets=("q_proj",)))
    assert {name.split(".")[-4] for name in adapter_weights(adapted.state_dict())} == {"q_proj"}
    for one, other in zip(base, logits_of(adapted, tokenizer), strict=True):
        assert torch.equal(one, other)


def test_targets_that_are_not_there_are_named(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), load_tokenizer(str(tiny_model)))
    with pytest.raises(UserError, match=r"train\.lora\.targets.*query_key_value"):
        with_adapter(model, LoraSettings(targets=("query_key_value",)))
