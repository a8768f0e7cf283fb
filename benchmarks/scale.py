"""Grading on more nodes and more rows: what a row costs, and what is left when nothing is waited for.

    python -m benchmarks.scale --rows 10000 100000 1000000 --nodes 1 2 4 --out runs.json
    python -m benchmarks.scale --rows --add runs.json more_runs.json    # a fit through runs of before

The nodes are simulated: Ray nodes of one CPU each on this machine, beside a head that does no work. The judge
answers at once (--judge openai: the loopback endpoint at 0 ms, through OpenAI's SDK). On one machine more
nodes make nothing faster; what counts is CPU time by process, which on real nodes is spent side by side. Told
for each run: seconds, CPU milliseconds a row of the driver, of the judge's actors and of Ray's own processes,
the driver's memory, what the ledger holds; then a line fitted through all runs, carried on to 10^8 rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.grading import MODEL, endpoint
from benchmarks.many_rows import own_mib, write_rows

SAMPLE_EVERY_S = 0.5
FAR_ROWS = 10**8
ROLES = ("driver", "judge", "ray")


@dataclass(frozen=True)
class Run:
    """What one grading took."""

    nodes: int
    rows: int
    seconds: float
    cpu_s: dict[str, float]
    """By role."""
    driver_mib: float
    ledger_files: int
    ledger_bytes: int


@contextmanager
def simulated_nodes(count: int) -> Iterator[tuple[str, list[int]]]:
    """Give the address of a cluster of so many nodes, and the ids of its nodes' processes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ours = [child.pid for child in psutil.Process().children()]
        yield cluster.address, ours
    finally:
        cluster.shutdown()


def role_of(process: psutil.Process, driver: int) -> str:
    """Return whose work a process does."""
    if process.pid == driver:
        return "driver"
    title = " ".join(process.cmdline())
    return "judge" if "Judge" in title and title.startswith("ray::") else "ray"


class CpuTimes:
    """The CPU seconds of processes, those that have ended included."""

    def __init__(self, roots: Sequence[int], driver: int) -> None:
        self._roots, self._driver = roots, driver
        self._first: dict[int, float] = {}
        self._last: dict[int, tuple[str, float]] = {}

    def look(self) -> None:
        """Note what each process has used by now."""
        for root in (*self._roots, self._driver):
            try:
                top = psutil.Process(root)
                family = [top, *top.children(recursive=True)]
            except psutil.Error:
                continue
            for process in family:
                try:
                    used_s = sum(process.cpu_times()[:2])
                    self._first.setdefault(process.pid, used_s)
                    # An actor that is about to end has no title of its own any more.
                    role, _ = self._last.get(process.pid, ("ray", 0.0))
                    role = role_of(process, self._driver) if role == "ray" else role
                    self._last[process.pid] = role, used_s
                except psutil.Error:
                    continue

    def by_role(self) -> dict[str, float]:
        """Return what was used since the first look."""
        used = dict.fromkeys(ROLES, 0.0)
        for pid, (role, used_s) in self._last.items():
            used[role] += used_s - self._first[pid]
        return used


def measure(nodes: int, rows: int, judge: str, concurrency: int) -> Run:
    """Grade so many rows on so many nodes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        endpoint(0.0, None) as url,
        simulated_nodes(nodes) as (address, roots),
    ):
        data = Path(folder) / "rows.jsonl"
        write_rows(data, rows)
        command = [sys.executable, "-m", "alpagasus_ray.cli", "grade", "--data", str(data)]
        command += ["--run-dir", f"{folder}/run", "--judge", judge, "--model", MODEL]
        command += ["--max-concurrency", str(concurrency), "--set", "grade.guard.action=off"]
        command += ["--set", f"grade.num_actors={nodes}"]
        if judge == "openai":
            command += ["--base-url", f"{url}/v1"]
        environment = {**os.environ, "OPENAI_API_KEY": "none", "RAY_ADDRESS": address}
        started_s = time.monotonic()
        with (Path(folder) / "said").open("w+") as said:
            driver = psutil.Popen(command, env=environment, stdout=said, stderr=said)
            times, most_mib = CpuTimes(roots, driver.pid), 0.0
            while driver.poll() is None:
                times.look()
                most_mib = max(most_mib, own_mib(driver))
                time.sleep(SAMPLE_EVERY_S)
            if driver.returncode != 0:
                said.seek(0)
                raise RuntimeError(
                    f"grading {rows} rows ended with {driver.returncode}: {said.read()[-500:]}"
                )
        seconds = time.monotonic() - started_s
        files = [file for file in (Path(folder) / "ledger").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        return Run(nodes, rows, seconds, times.by_role(), most_mib, len(files), size)


def fitted(runs: Sequence[Run], values: Sequence[float]) -> tuple[float, float, float]:
    """Return constant, cost of a row and cost of a node, by least squares over the runs.

    Each run counts by its relative error: the large ones would else hide the small.
    """
    columns = np.array([[1.0, run.rows, run.nodes] for run in runs])
    weights = 1.0 / np.maximum(np.array(values), 1e-9)
    solved = np.linalg.lstsq(columns * weights[:, None], np.array(values) * weights, rcond=None)[0]
    return float(solved[0]), float(solved[1]), float(solved[2])


def print_fit(runs: Sequence[Run]) -> None:
    """Say what a row costs by role, and what that makes of FAR_ROWS."""
    far = f"at {FAR_ROWS:,} rows, 4 nodes"
    print(f"\n{'fitted':<18}{'constant':>12}{'a row':>14}{'a node':>12}{far:>32}")
    told_apart = [run for run in runs if run.cpu_s["judge"]]
    for role in (*ROLES, "judge + ray"):
        chosen = told_apart if role in ("judge", "ray") else runs
        used = [sum(run.cpu_s[part] for part in role.split(" + ")) for run in chosen]
        constant, a_row, a_node = fitted(chosen, used)
        far_h = (constant + a_row * FAR_ROWS + a_node * 4) / 3600
        line = f"{constant:>10.1f} s{1000 * a_row:>11.3f} ms{a_node:>10.2f} s{far_h:>30.1f} h"
        print(f"{role + ', CPU':<18}{line}")
    constant, a_row, a_node = fitted(runs, [run.driver_mib for run in runs])
    far_mib = constant + a_row * FAR_ROWS + 4 * a_node
    line = f"{constant:>8.0f} MiB{a_row * 2**20:>12.1f} B{a_node:>8.1f} MiB{far_mib:>28,.0f} MiB"
    print(f"{'driver, memory':<18}{line}")


def print_run(run: Run) -> None:
    """Print a run as a line of the table."""
    print(
        f"{run.nodes:>6}{run.rows:>11,}{run.seconds:>9.1f}{run.rows / run.seconds:>8.0f}"
        + "".join(f"{1000 * run.cpu_s[role] / run.rows:>15.3f}" for role in ROLES)
        + f"{run.driver_mib:>12.0f}{run.ledger_files:>14}{run.ledger_bytes / run.rows:>14.0f}",
        flush=True,
    )


def main() -> None:
    """Measure every combination and print a table."""
    parser = argparse.ArgumentParser(description="Grading on more nodes and rows: what a row costs.")
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--judge", choices=["answer-key", "openai"], default="answer-key")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--out", type=Path, help="write the runs as JSON as well")
    parser.add_argument("--add", type=Path, nargs="+", default=[], help="runs of before, from --out's files")
    args = parser.parse_args()
    print(
        f"{'nodes':>6}{'rows':>11}{'seconds':>9}{'rows/s':>8}"
        + "".join(f"{f'{role} ms/row':>15}" for role in ROLES)
        + f"{'driver MiB':>12}{'ledger files':>14}{'ledger B/row':>14}"
    )
    runs = [Run(**run) for file in args.add for run in json.loads(file.read_text(encoding="utf-8"))]
    for run in runs:
        print_run(run)
    for rows in args.rows:
        for nodes in args.nodes:
            runs.append(measure(nodes, rows, args.judge, args.concurrency))
            print_run(runs[-1])
            if args.out is not None:  # after each: the largest take long
                args.out.write_text(json.dumps([vars(run) for run in runs], indent=1), encoding="utf-8")
    print_fit(runs)


if __name__ == "__main__":
    main()
