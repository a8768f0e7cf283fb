"""Memory of every process behind the endpoint while it is asked without a pause.

    python -m benchmarks.serving_memory --data random_9k.json --seconds 300

A Llama with random weights is served; clients of the official SDK ask one prompt after the other, every
other one as a stream. Told for each process: its own MiB (without pages of files and of Ray's object store,
which are shared), averaged over each fifth of the time. What grows by requests shows in the last fifths; the
first holds caches that fill once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import psutil

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.serve.endpoint import Endpoint
from benchmarks.contenders import MODEL, served, settings_of
from benchmarks.many_rows import own_mib
from benchmarks.random_model import SIZES, build_model

SAMPLE_EVERY_S = 2.0
PARTS = 5
SMALL_MIB = 20.0
"""Processes that hold less are not told one by one."""

Seen = dict[int, list[tuple[float, float]]]
"""By process: when, in seconds, and how many MiB."""


class Clients:
    """Ask until they are told to stop."""

    def __init__(self, endpoint: Endpoint, prompts: list[str], new_tokens: int, count: int) -> None:
        import openai

        self._client = openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0, timeout=600)
        self._prompts, self._new_tokens = itertools.cycle(prompts), new_tokens
        self._lock, self._stop = threading.Lock(), threading.Event()
        self.answered = self.failed = 0
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    def _ask(self, number: int) -> None:
        for turn in itertools.count(number):
            if self._stop.is_set():
                return
            with self._lock:
                prompt = next(self._prompts)
            try:
                self._one(prompt, stream=turn % 2 == 0)
                answered = 1
            except Exception:
                answered = 0
            with self._lock:
                self.answered += answered
                self.failed += 1 - answered

    def _one(self, prompt: str, *, stream: bool) -> None:
        ask = self._client.completions.create
        if stream:
            for _ in ask(model=MODEL, prompt=prompt, max_tokens=self._new_tokens, stream=True):
                pass
        else:
            ask(model=MODEL, prompt=prompt, max_tokens=self._new_tokens)

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def sampled(seconds: float) -> tuple[Seen, dict[int, str]]:
    """Return what this process and all below it hold, now and then, for so long; and what they are."""
    seen: Seen = defaultdict(list)
    names: dict[int, str] = {}
    started_s = time.monotonic()
    me = psutil.Process()
    while (at_s := time.monotonic() - started_s) < seconds:
        for process in [me, *me.children(recursive=True)]:
            try:
                name = (" ".join(process.cmdline()) or process.name()).strip()
            except psutil.Error:
                continue
            names.setdefault(process.pid, name)  # an actor's title names the method that it is in
            seen[process.pid].append((at_s, own_mib(process)))
        time.sleep(SAMPLE_EVERY_S)
    return seen, names


def by_part(samples: list[tuple[float, float]], seconds: float) -> list[float]:
    """Return the mean MiB of each part of the time; 0 where the process was not there."""
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for at_s, mib in samples:
        parts[min(PARTS - 1, int(at_s / seconds * PARTS))].append(mib)
    return [sum(part) / len(part) if part else 0.0 for part in parts]


def shown_name(command: str) -> str:
    """Return what tells a process: Ray's title, or the last part of its program's path."""
    words = command.split()
    if command.startswith(("ray::", "VLLM")):
        return command[:44]
    scripts = [word for word in words if word.endswith(".py") or "/ray/core/src/" in word]
    return (scripts or words or ["?"])[0].rsplit("/", 1)[-1][:44]


def main() -> None:
    """Serve, ask, and print a line a process."""
    parser = argparse.ArgumentParser(description="Memory of each process of the endpoint under load.")
    parser.add_argument("--data", type=Path, required=True, help="a JSON list of rows in the Alpaca form")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--size", choices=sorted(SIZES), default="2m")
    args = parser.parse_args()
    import ray

    rows = json.loads(args.data.read_text(encoding="utf-8"))
    prompts = [render_prompt(row["instruction"], row["input"]) for row in rows[:2048]]
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        build_model(Path(folder) / MODEL, rows, args.size, 2048)
        settings = settings_of({})
        with (
            served(Path(folder) / MODEL, settings, prompts) as endpoint,
            Clients(endpoint, prompts, args.new_tokens, args.clients) as clients,
        ):
            seen, names = sampled(args.seconds)
    ray.shutdown()
    print(f"{clients.answered:,} answers, {clients.failed} failures, in {args.seconds:g} s")
    print(f"{'MiB in each fifth of the time':<46}" + "".join(f"{part + 1:>8}" for part in range(PARTS)))
    table = {pid: by_part(samples, args.seconds) for pid, samples in seen.items()}
    for pid, parts in sorted(table.items(), key=lambda one: -one[1][-1]):
        if max(parts) >= SMALL_MIB:
            print(f"{shown_name(names[pid]):<46}" + "".join(f"{mib:>8.0f}" for mib in parts))
    sums = [sum(parts[number] for parts in table.values()) for number in range(PARTS)]
    print(f"{'all':<46}" + "".join(f"{mib:>8.0f}" for mib in sums))


if __name__ == "__main__":
    main()
