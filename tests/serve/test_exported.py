"""What a training wrote, behind vLLM and in transformers: the same greedy answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
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


def test_the_offline_road_gives_the_endpoints_answers(
    finished_demo: tuple[Path, Any], tmp_path: Path
) -> None:
    run_dir, _ = finished_demo
    copy = tmp_path / "demo"
    shutil.copytree(run_dir, copy, symlinks=True)
    shutil.rmtree(copy / "answers" / "filtered")
    command = [sys.executable, "-m", "alpagasus_ray.cli", "generate", "--run-dir", str(copy)]
    offline = ["--arm", "filtered", "--set", "generate.road=offline"]
    done = subprocess.run([*command, *offline], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    files = sorted((run_dir / "answers" / "filtered").glob("*.jsonl"))
    assert len(files) == 4
    for served in files:
        made = copy / "answers" / "filtered" / served.name
        assert made.read_text() == served.read_text(), "text, finish_reason and tokens"
    manifest = RunDirectory(str(copy)).manifest("answers/filtered")
    assert manifest is not None and manifest.details["road"] == "offline"
