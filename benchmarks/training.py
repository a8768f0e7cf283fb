"""Fine-tuning beside transformers.Trainer: the same model, rows, batches and threads in one run.

    python -m benchmarks.training --data random_9k.json
    python -m benchmarks.training --data random_9k.json --size 1b --max-length-tokens 2048   # on a GPU

A Llama with random weights and a tokenizer trained on the rows are made first; every contender then trains
on the same first rows, in turn, in a process of its own. `trainer` pads each micro-batch to its longest row,
`trainer, by length` draws rows of similar length together (its own option). `2 alone` are two processes
with a thread each that know nothing of each other, at the same time: what two workers could reach at most.
Tokens are without padding, over the steps after the first two. Figures mean something only beside each other.

On a GPU the precision is bfloat16 and the share of the GPU's peak is told (MFU): 6 operations for each
parameter that is multiplied by and each token, over the rate of an 8192 x 8192 product measured in the same
run, and over the data sheet's peak where it is known. One process needs torch, transformers and accelerate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from alpagasus_ray.train.gpus import GPUS
from benchmarks.random_model import SIZES, build_model
from benchmarks.training_worker import WARM_STEPS, Run, Seen

SPARE = 2
"""Rows that are tokenised for each that is trained on."""
TRAINER, BY_LENGTH, PADDED, PACKED = "trainer", "trainer, by length", "ours, padded", "ours, packed"
TWO_ALONE, FSDP = "ours, 2 alone", "ours, 2 x fsdp"


@dataclass(frozen=True)
class Contender:
    """One way to train."""

    name: str
    kind: str = "ours"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of training that are its own."""
    trainer: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    beside: str = TRAINER
    """The contender that it is compared with."""


CONTENDERS = (
    Contender(TRAINER, "trainer"),
    Contender(BY_LENGTH, "trainer", trainer={"train_sampling_strategy": "group_by_length"}),
    Contender(PADDED, settings={"packing": False}),
    Contender(PACKED, settings={"packing": True}),
    Contender(TWO_ALONE, settings={"packing": False}, processes=2, beside=TWO_ALONE),
    Contender(FSDP, settings={"packing": False, "strategy": "fsdp", "workers": 2}, beside=TWO_ALONE),
)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that all contenders share."""
    return {
        "strategy": "single",
        "workers": 1,
        "threads_per_worker": args.threads,
        "epochs": 1,
        "global_batch_size": args.global_batch_size,
        "micro_batch_size": args.micro_batch_size,
        "max_length_tokens": args.max_length_tokens,
        "precision": "bf16" if torch.cuda.is_available() else "fp32",
        "activation_checkpointing": args.activation_checkpointing,
    }


def measure(contender: Contender, run: Run, folder: Path) -> Seen:
    """Run a contender to its end; return what was seen, rates of its processes added up."""
    runs = [replace(run, out=str(folder / f"seen-{number}.json")) for number in range(contender.processes)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(run.settings.get("threads_per_worker", 1)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    started = []
    for number, one in enumerate(runs):
        file = folder / f"run-{number}.json"
        file.write_text(json.dumps(asdict(one)), encoding="utf-8")
        command = [sys.executable, "-m"]
        if one.settings.get("strategy") == "fsdp":
            command += ["torch.distributed.run", "--standalone", "--nproc-per-node"]
            command += [str(one.settings["workers"]), "-m"]
        elif torch.cuda.is_available():
            environment["CUDA_VISIBLE_DEVICES"] = str(number)
        command += ["benchmarks.training_worker", str(file)]
        with (folder / f"log-{number}.txt").open("w", encoding="utf-8") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    statuses = [process.wait() for process in started]
    for number, status in enumerate(statuses):
        if status != 0:
            log_text = (folder / f"log-{number}.txt").read_text(encoding="utf-8")
            raise SystemExit(f"{contender.name} ended with status {status}:\n{log_text[-3000:]}")
    seen = [Seen(**json.loads(Path(one.out).read_text(encoding="utf-8"))) for one in runs]
    return Seen(
        first_step_s=max(one.first_step_s for one in seen),
        tokens_per_s=sum(one.tokens_per_s for one in seen),
        peak_mib=max(one.peak_mib for one in seen),
        loss=seen[0].loss,
        tokens=sum(one.tokens for one in seen),
    )


def run_of(contender: Contender, args: argparse.Namespace, folder: Path) -> Run:
    """Return what a contender is asked to do; two processes that share the machine take half the steps."""
    shared = settings_of(args)
    own = dict(contender.settings)
    if contender.beside == TWO_ALONE:
        own["threads_per_worker"] = 1
    steps = WARM_STEPS + args.steps
    if contender.processes > 1:
        steps = WARM_STEPS + -(-args.steps // contender.processes)
    return Run(
        contender=contender.kind,
        started_s=time.time(),
        out="",
        model=str(folder / "model"),
        rows=str(folder / "rows.json"),
        num_rows=steps * args.global_batch_size,
        settings={**shared, **own},
        trainer=dict(contender.trainer),
    )


def told(name: str, seen: Sequence[Seen], ratios: Sequence[float], mfus: Iterator[float]) -> str:
    """Return a contender's line of the table: the median of its rounds."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    shares = "".join(f"{share:>10.3f}" for share in mfus)
    ratio = f"{median(ratios):>9.2f}" if ratios else f"{'':>9}"
    return (
        f"{name:<20}{median([one.tokens_per_s for one in seen]):>9.0f}/s{ratio}"
        f"{median([one.first_step_s for one in seen]):>11.1f} s"
        f"{median([one.peak_mib for one in seen]):>9.0f} MiB{seen[-1].loss:>8.3f}{shares}"
    )


def peaks_of_gpu(folder: Path) -> dict[str, float]:
    """Return what MFU is a share of, in FLOP/s: the measured rate, and the data sheet's where it is known."""
    if not torch.cuda.is_available():
        return {}
    measured = measure(Contender("matmul", "matmul"), Run("matmul", time.time(), ""), folder).tokens_per_s
    name = torch.cuda.get_device_name(0).lower().replace(" ", "-")
    sheet = [1e12 * gpu.bf16_tflops for known, gpu in GPUS.items() if known.partition("-")[0] in name]
    print(f"{torch.cuda.get_device_name(0)}: {measured / 1e12:.0f} TFLOP/s in bfloat16 as measured")
    return {"MFU": measured} | ({"of sheet": sheet[0]} if sheet else {})


def parse() -> argparse.Namespace:
    """Return the command line's flags."""
    is_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Fine-tuning beside transformers.Trainer.")
    parser.add_argument("--data", required=True, help="a JSON list of rows in the Alpaca form")
    parser.add_argument("--size", choices=list(SIZES), default="1b" if is_gpu else "20m")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps that are timed")
    parser.add_argument("--rounds", type=int, default=1, help="how often all contenders take their turn")
    parser.add_argument("--global-batch-size", type=int, default=128 if is_gpu else 32, help="rows a step")
    parser.add_argument("--micro-batch-size", type=int, default=4, help="rows (or packs) of a forward pass")
    parser.add_argument("--max-length-tokens", type=int, default=512, help="of a row, and of a pack")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each single process")
    parser.add_argument("--activation-checkpointing", action="store_true", help="to save memory")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in CONTENDERS], help="these alone")
    return parser.parse_args()


def main() -> None:
    """Let every contender take its turn and print a table."""
    args = parse()
    chosen = [one for one in CONTENDERS if not args.only or one.name in args.only]
    if torch.cuda.device_count() == 1:
        chosen = [one for one in chosen if one.beside != TWO_ALONE]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [row for row in json.loads(Path(args.data).read_text(encoding="utf-8")) if row["output"]]
        # Some more than are needed: a row whose prompt fills the window is dropped.
        first = rows[: SPARE * (WARM_STEPS + args.steps) * args.global_batch_size]
        (folder / "rows.json").write_text(json.dumps(first), encoding="utf-8")
        shape = build_model(folder / "model", rows, args.size, args.max_length_tokens)
        print(
            f"{shape.parameters:,} parameters, {args.global_batch_size} rows a step, {args.steps} steps timed"
        )
        peaks = peaks_of_gpu(folder)
        seen: dict[str, list[Seen]] = {one.name: [] for one in chosen}
        for _ in range(args.rounds):
            for one in chosen:
                seen[one.name].append(measure(one, run_of(one, args, folder), folder))
    print(
        f"{'':<20}{'tokens':>11}{'ratio':>9}{'first step':>13}{'peak':>13}{'loss':>8}"
        + "".join(f"{name:>10}" for name in peaks)
    )
    for one in chosen:
        pairs = zip(seen[one.name], seen.get(one.beside, []), strict=False)
        ratios = [mine.tokens_per_s / other.tokens_per_s for mine, other in pairs]
        flops = 6 * shape.multiplied_parameters * statistics.median(s.tokens_per_s for s in seen[one.name])
        print(told(one.name, seen[one.name], ratios, (flops / peak for peak in peaks.values())))


if __name__ == "__main__":
    main()
