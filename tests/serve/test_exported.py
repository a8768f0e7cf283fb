"""What a training wrote, behind vLLM and in transformers: the same greedy answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.testsets import read_testset
from tests.small_demo import NUM_PROMPTS

pytestmark = pytest.mark.slow
ARMS = ("full", "filtered")
MAX_NEW_TOKENS = 64
"""The demo recipe's."""


def test_greedy_answers_of_vllm_are_those_of_transformers_on_50_prompts(
    finished_demo: tuple[Path, Any],
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run_dir, _ = finished_demo
    testsets = [read_testset(path) for path in sorted((run_dir / "toyworld/testsets").glob("*.jsonl"))]
    compared = 0
    for arm in ARMS:
        folder = run_dir / "models" / arm
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        for testset in testsets:
            lines = (run_dir / "answers" / arm / f"{testset.name}.jsonl").read_text().splitlines()
            by_vllm = {line["id"]: line["answer"] for line in map(json.loads, lines)}
            for prompt in testset.prompts:
                ids = tokenizer(render_prompt(prompt.instruction, prompt.input), return_tensors="pt")
                made = model.generate(**ids, max_new_tokens=MAX_NEW_TOKENS)[0, ids["input_ids"].shape[1] :]
                text = tokenizer.decode(made, skip_special_tokens=True)
                # vLLM keeps back the bytes of a character that the last token leaves unfinished.
                assert by_vllm[prompt.id] == text.rstrip("\ufffd").strip(), (arm, prompt.id)
                compared += 1
    assert compared == len(ARMS) * NUM_PROMPTS >= 50
