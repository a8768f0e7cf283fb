"""The loss is the mean over a step's target tokens, however its rows are laid out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import TrainSettings
from alpagasus_ray.train.collate import IGNORED, collate
from alpagasus_ray.train.engines.base import target_loss
from alpagasus_ray.train.engines.single import SingleEngine
from alpagasus_ray.train.examples import Example, build_examples
from alpagasus_ray.train.loop import Callbacks, train
from alpagasus_ray.train.models import load_model, load_tokenizer

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
STEPS = 20


def curve(folder: Path, **how: Any) -> list[float]:
    """Return the losses of 20 steps on one process."""
    settings = TrainSettings(
        strategy="single",
        workers=1,
        epochs=1,
        learning_rate=1e-3,
        global_batch_size=8,
        max_length_tokens=256,
        precision="fp32",
        **how,
    )
    tokenizer = load_tokenizer(str(folder))
    examples, _ = build_examples(generate_rows(8 * STEPS, 0.5, 2), tokenizer, 256)
    torch.manual_seed(0)
    engine = SingleEngine(load_model(str(folder), tokenizer), settings, CPU)
    losses: list[float] = []
    callbacks = Callbacks(lambda metrics: losses.append(metrics.loss), lambda *_: None)
    train(engine, examples, settings, tokenizer.pad_token_id, callbacks)
    return losses


def summed(model: Any, examples: list[Example], packs: tuple[tuple[int, ...], ...]) -> float:
    """Return the summed loss of the packs' targets, in nats."""
    return float(target_loss(model, collate(examples, packs, 0, CPU), 1).detach())


def test_packing_and_accumulation_change_no_loss(tiny_model: Path) -> None:
    base = curve(tiny_model, packing=False, micro_batch_size=8)
    assert len(base) == STEPS and base[-1] < base[0] - 1
    for how in (
        {"packing": False, "micro_batch_size": 1},
        {"packing": True, "micro_batch_size": 8},
        {"packing": True, "micro_batch_size": 1},
    ):
        assert curve(tiny_model, **how) == pytest.approx(base, abs=1e-4), how


def test_an_example_in_a_pack_sees_only_itself(tiny_model: Path) -> None:
    """The same tokens are as likely alone as behind any other example."""
    tokenizer = load_tokenizer(str(tiny_model))
    model = load_model(str(tiny_model), tokenizer)
    examples, _ = build_examples(generate_rows(12, 0.5, 3), tokenizer, 256)
    alone = sum(summed(model, examples, ((index,),)) for index in range(12))
    for packs in (
        ((*range(12),),),
        ((*range(6),), (*range(6, 12),)),
        ((11, 0, 5), (1, 2, 3, 4), (6, 7, 8, 9, 10)),
    ):
        assert summed(model, examples, packs) == pytest.approx(alone, rel=1e-5)


def test_the_loss_is_that_of_the_whole_logits(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    model = load_model(str(tiny_model), tokenizer)
    examples, _ = build_examples(generate_rows(5, 0.5, 4), tokenizer, 256)
    batch = collate(examples, tuple((index,) for index in range(5)), 0, CPU)
    logits = model(input_ids=batch["input_ids"]).logits
    whole = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
    )
    assert float(target_loss(model, batch, 1).detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    assert model(input_ids=batch["input_ids"]).logits.shape == logits.shape, "the hook is gone again"


def test_targets_and_positions_stand_where_they_belong() -> None:
    examples = [Example((5, 6, 7), 1), Example((8, 9), 0), Example((1, 2, 3, 4), 2)]
    batch = collate(examples, ((0, 1), (2,)), 0, CPU)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [1, 2, 3, 4, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]]
    assert batch["labels"].tolist() == [
        [IGNORED, 6, 7, IGNORED, 9],
        [IGNORED, IGNORED, 3, 4, IGNORED],
    ]


def test_a_worker_without_rows_takes_part_and_adds_nothing(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    model = load_model(str(tiny_model), tokenizer)
    loss = target_loss(model, collate([], (), tokenizer.pad_token_id, CPU), 7)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss) == 0.0
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_gradients_that_are_not_finite_end_the_training_before_a_checkpoint(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    settings = TrainSettings(
        strategy="single",
        workers=1,
        epochs=1,
        global_batch_size=8,
        precision="fp32",
        checkpoint_every_steps=1,
    )
    engine = SingleEngine(load_model(str(tiny_model), tokenizer), settings, CPU)
    steps: list[int] = []
    next(engine.model.parameters()).register_hook(
        lambda gradient: gradient * (float("inf") if len(steps) == 2 else 1.0)
    )
    callbacks = Callbacks(lambda _: None, lambda _, metrics: steps.append(metrics.step))
    examples, _ = build_examples(generate_rows(40, 0.5, 2), tokenizer, 256)
    with pytest.raises(UserError, match=r"gradients' norm is not finite at step 3.*learning_rate"):
        train(engine, examples, settings, tokenizer.pad_token_id, callbacks)
    assert steps == [1, 2]
