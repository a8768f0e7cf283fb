"""`train --dry-run`: what is told before anything is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import plain_console
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import CorpusSettings, Recipe, TrainSettings
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.select.selecting import select
from alpagasus_ray.train.memory import Pass
from alpagasus_ray.train.model_shape import ModelShape
from alpagasus_ray.train.plan import ASSUMED_MFU, TrainingPlan, plan_training, training_flops
from alpagasus_ray.train.workload import Workload

LLAMA_7B = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, False)
CONFIG = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of 7B without its weights: the plan needs none."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}')
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run directory with an arm of 300 rows."""
    (tmp_path / "data.json").write_text(json.dumps(generate_rows(300, 0.5, 1)))
    made = RunDirectory(str(tmp_path / "run"))
    commit_corpus(made, CorpusSettings(data=str(tmp_path / "data.json")), plain_console())
    select(made, recipe(None), "full", plain_console())
    return made


def recipe(model: Path | None, **train: Any) -> Recipe:
    values = {**train, **({"model": str(model)} if model else {})}
    return parse_recipe({"train": values, "arms": {"full": {"selector": "full"}}})


def planned(run: RunDirectory, model: Path, *gpu: Any, **train: Any) -> TrainingPlan:
    return plan_training(run, recipe(model, **train), "full", *gpu)


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_plan_says_what_a_user_asks_and_writes_nothing(
    run: RunDirectory, model: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    made = planned(run, model, "h100", workers=4)
    assert files(tmp_path) == before
    text = made.to_text()
    for said in (
        "300 (0 dropped",
        "6,738,415,616, 6,738,415,616 trained",
        "4 x h100 (fsdp, bf16)",
    ):
        assert said in text
    for said in (
        "9: 3 epochs of 3",
        "128 rows: up to",
        "40% of 989 TFLOP/s assumed",
        "$6.88 an hour assumed",
    ):
        assert said in text
    for part in ("parameters", "gradients", "optimizer state", "activations", "logits"):
        assert f"\n  {part}" in text
    assert "does not fit" not in text
    assert max(len(line) for line in text.splitlines() if str(model) not in line) < 120


def test_json_holds_the_same(run: RunDirectory, model: Path) -> None:
    made = planned(run, model, "h100", workers=4)
    told = json.loads(json.dumps(made.to_dict()))
    assert (told["rows"], told["steps"], told["rows_per_step"]) == (300, 9, 128)
    assert told["memory"]["optimizer_state_gib"] == pytest.approx(8 * 6_738_415_616 / 4 / 2**30, abs=0.01)
    assert told["cost_usd"] == pytest.approx(made.duration_s / 3600 * 4 * 6.88, abs=1e-3)
    assert told["warning"] is None
    assert told["host_of_all_workers_gib"] == pytest.approx(4 * told["memory"]["host_gib"], abs=0.01)
    assert (
        f"loads the whole model: {told['host_of_all_workers_gib']:,.0f} for 4 on one host" in made.to_text()
    )


def test_what_does_not_fit_is_told_in_one_line(run: RunDirectory, model: Path) -> None:
    made = planned(run, model, "l4", strategy="single", workers=1)
    assert made.warning is not None and "\n" not in made.warning
    assert made.to_text().splitlines()[-1].startswith("does not fit")
    assert "nf4" in made.warning


def test_a_price_of_ones_own_counts(run: RunDirectory, model: Path) -> None:
    free, listed = planned(run, model, "h100", 0.0), planned(run, model, "h100")
    assert free.cost_usd == 0 < listed.cost_usd
    assert "assumed, 20" not in free.to_text()


def test_lora_and_zero_are_named(run: RunDirectory, model: Path) -> None:
    lora = {"rank": 8, "targets": ["q_proj", "v_proj"], "quantization": "nf4"}
    made = planned(run, model, "l4", strategy="single", workers=1, lora=lora, max_length_tokens=256)
    assert "LoRA rank 8, NF4" in made.to_text() and "4,194,304 trained" in made.to_text()
    zero = planned(run, model, "h100", strategy="deepspeed", zero_stage=3, offload="parameters")
    assert "deepspeed ZeRO-3" in zero.to_text() and "travels besides" in zero.to_text()
    named = planned(run, model, "h100", strategy="deepspeed", deepspeed_config="alpagasus-33b")
    assert "deepspeed ZeRO-3, bf16, parameters offloaded" in named.to_text()
    assert "travels besides" in named.to_text()


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_of_the_model_is_named(run: RunDirectory, model: Path, missing: str) -> None:
    (model / missing).unlink()
    with pytest.raises(UserError, match=missing):
        planned(run, model)


def test_what_is_needed_first_is_said(run: RunDirectory, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="select --arm other"):
        plan_training(run, recipe(model), "other")
    with pytest.raises(UserError, match=r"grade --data FILE.*select --arm full"):
        plan_training(RunDirectory(str(tmp_path / "empty")), recipe(model), "full")
    with pytest.raises(UserError, match="--model FOLDER"):
        plan_training(run, recipe(None), "full")
    with pytest.raises(UserError, match="--gpu-usd-per-hour"):
        planned(run, model, "h100", -1.0)


def test_what_a_training_would_refuse_the_plan_refuses(run: RunDirectory, model: Path) -> None:
    with pytest.raises(UserError, match=r"300 rows to train on and a global batch takes 301"):
        planned(run, model, global_batch_size=301)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(model / "tokenizer.json"))
    with pytest.raises(UserError, match=r"row \d+ of train\.json.*add_eos_token"):
        planned(run, model)


@pytest.mark.slow
def test_a_chat_template_is_planned_with(run: RunDirectory, model: Path) -> None:
    """The prompts are the template's own: two words of marks in place of Alpaca's sentences."""
    template = (
        "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + ' </s>' }}{% endfor %}"
    )
    config = {"eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": template}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    chat, alpaca = (planned(run, model, template=template) for template in ("chat", "alpaca"))
    assert chat.work.tokens < alpaca.work.tokens


def test_a_hub_model_that_is_not_here_is_not_fetched(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="hf download nobody/nothing"):
        plan_training(run, parse_recipe({"train": {"model": "nobody/nothing"}}), "full")


def work(tokens: int, length: int) -> Workload:
    return Workload(1, 1, 0, 0, tokens, tokens, True, 1, 4, 1.0, tokens, tokens * length, Pass(1, 1))


def test_a_token_takes_6_operations_for_a_parameter_and_12_for_attention() -> None:
    once = TrainSettings(epochs=1)
    n = LLAMA_7B.multiplied_parameters
    assert training_flops(LLAMA_7B, once, work(1000, 0)) == 6 * n * 1000
    attention = 12 * 32 * 4096 * 512
    assert training_flops(LLAMA_7B, once, work(1000, 512)) == (6 * n + attention) * 1000
    again = TrainSettings(epochs=1, activation_checkpointing=True)
    assert training_flops(LLAMA_7B, again, work(1000, 512)) == pytest.approx(
        (8 * n + attention * 4 / 3) * 1000
    )
    frozen = TrainSettings.model_validate({"epochs": 1, "lora": {"rank": 8, "targets": ["q_proj", "v_proj"]}})
    assert training_flops(LLAMA_7B, frozen, work(1000, 0)) == (4 * n + 6 * 4_194_304) * 1000
    assert training_flops(LLAMA_7B, TrainSettings(epochs=3), work(1000, 0)) == 18 * n * 1000


def test_the_papers_7b_takes_about_as_long_as_it_did() -> None:
    """9,229 rows of about 160 tokens, 3 epochs, 4 A100: the paper's 14 minutes hold loading too."""
    flops = training_flops(LLAMA_7B, TrainSettings(), work(9_229 * 160, 160))
    minutes = flops / (4 * ASSUMED_MFU * 312e12) / 60
    assert 3 < minutes < 14
