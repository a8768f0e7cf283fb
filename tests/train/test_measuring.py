"""Rates of a step: tokens, arithmetic, memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alpagasus_ray.recipe import LoraSettings, TrainSettings
from alpagasus_ray.train.adapters import with_adapter
from alpagasus_ray.train.batches import GlobalBatch
from alpagasus_ray.train.flops import TokenFlops
from alpagasus_ray.train.measuring import Meter, meter_of
from alpagasus_ray.train.models import load_model, load_tokenizer

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
BATCH = GlobalBatch((), 100, 1000, 250_000)


def test_the_share_of_the_peak_is_arithmetic_over_time_and_peak() -> None:
    rates = Meter(CPU, TokenFlops(6_000_000, 1_000), 1e10).rates(BATCH, 2.0)
    assert rates["tokens_per_s"] == 500
    assert rates["mfu"] == pytest.approx((6e9 + 2.5e8) / (2 * 1e10))


@pytest.mark.parametrize("meter", [Meter(CPU, None, 1e10), Meter(CPU, TokenFlops(1, 1), None)])
def test_a_model_or_a_card_that_is_not_known_has_no_share(meter: Meter) -> None:
    assert meter.rates(BATCH, 2.0)["mfu"] is None


def test_a_models_arithmetic_is_that_of_its_own_parameters(tiny_model: Path) -> None:
    settings = TrainSettings(strategy="single", workers=1)
    model = load_model(str(tiny_model), load_tokenizer(str(tiny_model)))
    meter = meter_of(model, settings, CPU, 1)
    embedding = 0 if model.config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
    assert meter.flops is not None and meter.peak_flops is None
    assert meter.flops.weights == 6 * (sum(one.numel() for one in model.parameters()) - embedding)

    lora = LoraSettings(rank=4)
    adapted = with_adapter(model, lora)
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    frozen = sum(one.numel() for one in adapted.parameters()) - trained - embedding
    flops = meter_of(adapted, settings.model_copy(update={"lora": lora}), CPU, 1).flops
    assert flops is not None and flops.weights == 4 * frozen + 6 * trained


def test_a_model_of_another_form_is_measured_without_its_arithmetic() -> None:
    class Model:
        class config:
            @staticmethod
            def to_dict() -> dict[str, int]:
                return {"num_experts": 8}

    meter = meter_of(Model(), TrainSettings(), CPU, 2)
    assert meter.flops is None and meter.rates(BATCH, 1.0)["tokens_per_s"] == 1000
