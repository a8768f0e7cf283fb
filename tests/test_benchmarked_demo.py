"""MT-Bench and a benchmark on models that were really trained and are really served, at the end of a run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from tests.benchmark.local_tasks import NUM_QUESTIONS, write_tasks
from tests.loopback import LoopbackServer
from tests.mt_bench.files import QUESTIONS, judge_reply, write_questions, write_references
from tests.small_demo import demo_command

pytestmark = pytest.mark.slow
ARMS = ("filtered", "full")
TURNS = 2 * len(QUESTIONS)


def test_trained_arms_answer_mt_bench_and_a_benchmark_while_they_are_served_once(
    finished_demo: tuple[Path, Any], tmp_path: Path
) -> None:
    run_dir = shutil.copytree(finished_demo[0], tmp_path / "runs" / "demo")
    with LoopbackServer(reply=judge_reply) as judge:
        bench = {
            **{"arms": ARMS, "mode": ["single", "pairwise"], "max_new_tokens": 24},
            **{"questions": write_questions(tmp_path), "references": write_references(tmp_path)},
            **{"judge": "openai", "model": "judge", "base_url": judge.base_url},
        }
        tasks = [str(file) for name, file in write_tasks(tmp_path / "tasks").items() if name == "sums"]
        sections = (f"mt_bench={json.dumps(bench)}", f"benchmark={json.dumps({'tasks': tasks})}")
        command = [*demo_command(run_dir), *(word for one in sections for word in ("--set", one))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=590, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert judge.answered.total() == (len(ARMS) + 2) * TURNS, (
            "each arm alone, and the pair in both orders"
        )
    assert done.stderr.count("every model has answered") == 1, "the models are served once for both"

    run = RunDirectory(str(run_dir))
    for arm in ARMS:
        lines = run.read_text(f"{run.mt_bench(arm)}/answers.jsonl").splitlines()
        assert [len(json.loads(line)["choices"][0]["turns"]) for line in lines] == [2] * len(QUESTIONS)
        scores = json.loads(run.read_text(f"{run.mt_bench_scores(arm, 'judge')}/results.json"))
        assert scores["overall"]["n"] == TURNS and 1 <= scores["overall"]["mean"] <= 10
        reached = run.manifest(f"benchmarks/{arm}/sums")
        assert reached is not None and reached.counts["questions"] == NUM_QUESTIONS
    pair = json.loads(run.read_text(f"{run.mt_bench_verdicts(*ARMS, 'judge')}/results.json"))
    assert pair["overall"]["n"] == TURNS
    page = run.read_text("report/index.html")
    assert "MT-Bench" in page and "sums" in page
    assert "mt-bench" in done.stdout.lower() and "sums" in done.stdout
