"""Grading many rows: how the driver's memory and the time grow with them.

    python -m benchmarks.many_rows --rows 10000 100000 1000000
    python -m benchmarks.many_rows --rows 10000 100000 1000000 --judge openai

The rows are made up, short, and all different. The judge is the answer key, which costs next to nothing, or
the loopback endpoint at 0 ms through OpenAI's SDK. Told for each number of rows: the whole process's
seconds, rows a second, and the most of the driver's own memory (without pages of files and of Ray's object
store, which are shared) up to each quarter of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.grading import MODEL, endpoint

SAMPLE_EVERY_S = 0.25


def write_rows(path: Path, count: int) -> None:
    """Write rows in the Alpaca form, a JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = {"instruction": "Name an antonym of old.", "input": "", "output": f"Young. {number}"}
            file.write(json.dumps(row) + "\n")


def own_mib(process: psutil.Process) -> float:
    """Return a process's memory less what it shares; 0 when it has ended."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0.0
    return float(memory.rss - memory.shared) / 2**20


def measure(rows: int, judge: str, concurrency: int) -> tuple[float, list[float]]:
    """Grade so many rows; return the seconds, and the driver's most MiB up to each quarter of them."""
    with tempfile.TemporaryDirectory() as folder, endpoint(0.0, None) as url:
        data = Path(folder) / "rows.jsonl"
        write_rows(data, rows)
        command = [sys.executable, "-m", "alpagasus_ray.cli", "grade", "--data", str(data)]
        command += ["--run-dir", f"{folder}/run", "--judge", judge, "--model", MODEL]
        command += ["--max-concurrency", str(concurrency), "--set", "grade.guard.action=off"]
        if judge == "openai":
            command += ["--base-url", f"{url}/v1"]
        started_s = time.monotonic()
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        driver = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen: list[tuple[float, float]] = []
        while driver.poll() is None:
            seen.append((time.monotonic() - started_s, own_mib(driver)))
            time.sleep(SAMPLE_EVERY_S)
        if driver.returncode != 0:
            raise RuntimeError(f"grading {rows} rows ended with status {driver.returncode}")
        whole_s = time.monotonic() - started_s
    return whole_s, [max(mib for at_s, mib in seen if at_s <= part * whole_s) for part in QUARTERS]


QUARTERS = (0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Measure each number of rows and print a table."""
    parser = argparse.ArgumentParser(description="Grading many rows: memory of the driver, and time.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--judge", choices=["answer-key", "openai"], default="answer-key")
    parser.add_argument("--concurrency", type=int, default=256)
    args = parser.parse_args()
    print(f"{'rows':>10}{'seconds':>10}{'rows/s':>9}" + "".join(f"{f'MiB at {q:.0%}':>13}" for q in QUARTERS))
    for rows in args.rows:
        whole_s, mib = measure(rows, args.judge, args.concurrency)
        print(
            f"{rows:>10,}{whole_s:>10.1f}{rows / whole_s:>9.0f}" + "".join(f"{one:>13.0f}" for one in mib),
            flush=True,
        )


if __name__ == "__main__":
    main()
