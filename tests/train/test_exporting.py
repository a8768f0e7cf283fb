"""What is written is what was trained, and loads wherever Hugging Face folders do."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.serve.model_folder import check_model_folder
from alpagasus_ray.train import exporting
from alpagasus_ray.train.job import SUMMARY_FILE, TrainJob
from alpagasus_ray.train.models import load_tokenizer
from alpagasus_ray.train.worker import ENGINES, run_worker
from tests.train.checkpoints import forget
from tests.train.small_tokenizers import CHATML

pytestmark = pytest.mark.slow
ROWS = generate_rows(48, 0.5, 5)
PROMPTS = [render_prompt(row["instruction"], row["input"]) for row in ROWS[:8]]


class Trained:
    """A model of a few steps, as it was in training and as it was written."""

    def __init__(self, base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **train: Any) -> None:
        self.folder = folder / "filtered"
        self.folder.mkdir(parents=True)
        (folder / "train.json").write_text(json.dumps(ROWS))
        settings = TrainSettings.model_validate(
            {
                "strategy": "single",
                "workers": 1,
                "epochs": 1,
                "learning_rate": 5e-3,
                "global_batch_size": 16,
                "max_length_tokens": 256,
                "precision": "fp32",
                **train,
            }
        )
        built: list[Any] = []
        make = ENGINES[settings.strategy]

        def keep(*args: Any) -> Any:
            built.append(make(*args))
            return built[-1]

        monkeypatch.setitem(ENGINES, settings.strategy, keep)
        run_worker(TrainJob(str(base), str(folder / "train.json"), str(self.folder), settings), None, forget)
        self.model = built[0].model

    def loaded(self, **how: Any) -> tuple[Any, Any]:
        return (
            AutoModelForCausalLM.from_pretrained(self.folder, **how),
            AutoTokenizer.from_pretrained(self.folder),
        )


def logits_of(model: Any, tokenizer: Any) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return [model(**tokenizer(prompt, return_tensors="pt")).logits for prompt in PROMPTS]


def test_logits_of_the_written_model_are_those_of_the_trained_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(tiny_model, tmp_path, monkeypatch)
    model, tokenizer = trained.loaded()
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    both = zip(logits_of(model, tokenizer), logits_of(trained.model, tokenizer), strict=True)
    assert all(torch.equal(one, other) for one, other in both)
    assert not torch.equal(logits_of(base, tokenizer)[0], logits_of(model, tokenizer)[0])
    check_model_folder(trained.folder)
    assert json.loads((trained.folder / SUMMARY_FILE).read_text())["examples"] == 48
    assert model.config.use_cache and model.dtype == torch.float32
    rights = {path.name: oct(path.stat().st_mode & 0o777) for path in trained.folder.iterdir()}
    assert rights["model.safetensors"] == rights["config.json"], "who may read the one may read the other"


def test_large_weights_come_in_shards_that_load_as_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MAX_SHARD_SIZE", "1MB")
    trained = Trained(tiny_model, tmp_path, monkeypatch)
    shards = sorted(trained.folder.glob("model-*-of-*.safetensors"))
    assert len({path.stat().st_mode for path in trained.folder.iterdir() if path.is_file()}) == 1
    assert len(shards) > 2 and not (trained.folder / "model.safetensors").exists()
    check_model_folder(trained.folder)
    model, tokenizer = trained.loaded()
    assert torch.equal(logits_of(model, tokenizer)[0], logits_of(trained.model, tokenizer)[0])


def test_bf16_is_written_and_said_as_bf16(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Trained(tiny_model, tmp_path, monkeypatch, precision="bf16")
    assert json.loads((trained.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert {tensor.dtype for tensor in trained.loaded()[0].state_dict().values()} == {torch.bfloat16}


@pytest.fixture
def group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", ["single", "fsdp"])
def test_a_head_that_is_the_embedding_is_written_once(
    strategy: str, precision: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.lm_head.weight, base.config.tie_word_embeddings = base.model.embed_tokens.weight, True
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    how = {"strategy": strategy, "precision": precision}
    trained = Trained(tmp_path / "base", tmp_path, monkeypatch, **how)
    with safe_open(trained.folder / "model.safetensors", "pt") as file:
        assert "model.embed_tokens.weight" in file.keys() and "lm_head.weight" not in file.keys()  # noqa: SIM118
    model, _ = trained.loaded()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not torch.equal(model.lm_head.weight, base.lm_head.weight.to(model.dtype))
    if precision == "fp32":
        both = zip(logits_of(model, tokenizer), logits_of(trained.model, tokenizer), strict=True)
        assert all(torch.equal(one, other) for one, other in both)


def test_it_answers_greedily_whatever_the_base_model_did(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    # As Llama 2 Chat has it.
    sampling = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096, "eos_token_id": 2}
    (base / "generation_config.json").write_text(json.dumps(sampling))
    trained = Trained(base, tmp_path, monkeypatch)
    written = json.loads((trained.folder / "generation_config.json").read_text())
    model, tokenizer = trained.loaded()
    assert not {"temperature", "top_p", "top_k", "max_length"} & set(written)
    assert (written["do_sample"], written["eos_token_id"], written["pad_token_id"]) == (
        False,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    assert model.config.eos_token_id == tokenizer.eos_token_id
    GenerationConfig.from_pretrained(trained.folder).save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again == written
    with caplog.at_level(logging.WARNING, "transformers"):
        ids = tokenizer(PROMPTS[0], return_tensors="pt")
        answers = [model.generate(**ids, max_new_tokens=8) for _ in range(2)]
    assert torch.equal(*answers) and not caplog.records


def test_chat_completions_see_the_prompt_of_training(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tokenizer = Trained(tiny_model, tmp_path, monkeypatch).loaded()
    message = [{"role": "user", "content": "Name a fruit."}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    assert ids == tokenizer(render_prompt("Name a fruit."))["input_ids"]


def test_an_arm_trained_by_the_models_own_template_keeps_it_and_stops_where_it_ends(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    tokenizer = load_tokenizer(str(base))
    # Marks that have rows in the embeddings already, as a base model's reserved tokens do.
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "<unk>")
    tokenizer.save_pretrained(base)
    trained = Trained(base, tmp_path, monkeypatch, template="chat")
    model, written = trained.loaded()
    assert written.chat_template == tokenizer.chat_template
    assert set(model.generation_config.eos_token_id) == {tokenizer.unk_token_id, tokenizer.eos_token_id}
    assert "own chat template" in (trained.folder / "README.md").read_text()


def test_adapters_alone_come_with_tokenizer_template_and_card(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM

    trained = Trained(tiny_model, tmp_path, monkeypatch, lora={"rank": 4, "merge": False})
    names = {path.name for path in trained.folder.iterdir()}
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    } <= names
    assert not {"config.json", "model.safetensors"} & names
    card = (trained.folder / "README.md").read_text()
    assert "LoRA adapters" in card and "| `lora.rank` | 4 |" in card and str(tmp_path) not in card
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    adapted = AutoPeftModelForCausalLM.from_pretrained(trained.folder)
    both = zip(logits_of(adapted, tokenizer), logits_of(trained.model, tokenizer), strict=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in both)
