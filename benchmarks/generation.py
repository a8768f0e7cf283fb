"""Answering prompts beside vLLM's own offline engine: the same model, prompts and lengths in one run.

    python -m benchmarks.generation --data random_9k.json
    python -m benchmarks.generation --data random_9k.json --size 1b --prompts 2048   # on a GPU

A Llama with random weights is made first. Every contender answers the same prompts greedily: vLLM's
LLM.generate (what the engine can do), the endpoint through our client, a client of 64 threads as one writes
it first, the offline road inside Ray Data, and transformers one prompt at a time (a few of them). Start-up is
left out: each is warm before its clock starts; the offline road has four times the prompts, and its clock
runs from a quarter of the answers to three quarters, the engine full at both ends. What is held against vLLM
is asked right after it, three times over (the road: between two of vLLM's). Then latencies with 1, 16 and 64
clients, and with a long shared head before every prompt, with and without prefix caching. Figures mean
something only beside each other.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.serve.engine_settings import engine_arguments
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ServedModel
from benchmarks.contenders import (
    MODEL,
    by_endpoint,
    by_offline_road,
    by_threads,
    by_transformers,
    latencies,
    requests_of,
    served,
    settings_of,
    vllm_offline,
)
from benchmarks.random_model import SIZES, build_model

HEADED_TOKENS = 16
SHARED_HEAD = "Answer as a patient teacher would, in plain words and with one example. " * 24
ROUNDS = 3


def against(name: str, rates: Sequence[float], peers: Sequence[float]) -> str:
    """Return a line with the median rate, and the median and the range of its ratio to the peer's."""
    ratios = sorted(rate / peer for rate, peer in zip(rates, peers, strict=True))
    spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
    median = statistics.median(ratios)
    return f"{name:<44}{statistics.median(rates):>9,.0f} tokens/s{median:>8.2f} of vLLM offline{spread}"


def measure_rates(folder: Path, prompts: Sequence[str], more: Sequence[str], new_tokens: int) -> None:
    """Say every contender's tokens a second; `more` prompts are for the offline road, whose start is cut."""
    import ray

    on_gpu = ray.cluster_resources().get("GPU", 0) > 0
    # Two engines at a time, one of them idle; each round has the same prompts.
    memory = {"gpu_memory_utilization": 0.4} if on_gpu else {}
    settings = settings_of({"enable_prefix_caching": False} | memory)
    (engine,) = engines_of([ServedModel(MODEL, str(folder))])
    arguments = engine_arguments(engine, settings, on_gpu=on_gpu)
    requests = requests_of(prompts, new_tokens)
    with vllm_offline(folder, arguments, more, new_tokens, on_gpu=on_gpu) as by_vllm:
        before = by_vllm(len(more) // 2)
        road = by_offline_road(folder, requests_of(more, new_tokens), settings)
        vllm = (before + by_vllm(len(more) // 2)) / 2
        print(against(f"offline road (Ray Data), {len(more):,} prompts", [road], [vllm]), flush=True)
        with served(folder, settings, prompts) as endpoint:
            contenders: dict[str, Callable[[], float]] = {
                "endpoint, ours, 256 in flight": lambda: by_endpoint(endpoint, requests, 256, folder.parent),
                "endpoint, ours, 64 in flight": lambda: by_endpoint(endpoint, requests, 64, folder.parent),
                "endpoint, 64 threads": lambda: by_threads(endpoint, prompts, new_tokens, 64),
                "transformers, one at a time": lambda: by_transformers(folder, prompts[:4], new_tokens),
            }
            rates: dict[str, list[float]] = defaultdict(list)
            peers: dict[str, list[float]] = defaultdict(list)
            for _ in range(ROUNDS):
                for name, ask in contenders.items():
                    peers[name].append(by_vllm(len(prompts)))
                    rates[name].append(ask())
    for name, seen in rates.items():
        print(against(name, seen, peers[name]), flush=True)


def measure_latencies(folder: Path, prompts: Sequence[str], new_tokens: int) -> None:
    """Say how long clients wait, and what a long shared head costs."""
    with served(folder, settings_of({}), prompts) as endpoint:
        for clients in (1, 16, 64):
            p50_s, p99_s, first_s = latencies(endpoint, prompts[: 8 * clients][:256], new_tokens, clients)
            whole = f"p50 {p50_s:.2f} s, p99 {p99_s:.2f} s"
            print(f"{clients:>3} clients: {whole}, first token p50 {first_s:.3f} s", flush=True)
    headed = requests_of([SHARED_HEAD + prompt for prompt in prompts], HEADED_TOKENS)
    for caching, word in ((False, "off"), (True, "on")):
        with served(folder, settings_of({"enable_prefix_caching": caching}), prompts) as endpoint:
            rate = by_endpoint(endpoint, headed, 128, folder.parent)
            print(
                f"shared head, {HEADED_TOKENS} new tokens, prefix caching {word}: {rate:,.0f} tokens/s",
                flush=True,
            )


def main() -> None:
    """Make the model, measure, and print."""
    parser = argparse.ArgumentParser(description="Answering prompts beside vLLM offline, in one run.")
    parser.add_argument("--data", type=Path, required=True, help="a JSON list of rows in the Alpaca form")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--size", choices=sorted(SIZES), default="2m")
    args = parser.parse_args()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the official client's, a line a request
    rows = json.loads(args.data.read_text(encoding="utf-8"))
    more = [render_prompt(row["instruction"], row["input"]) for row in rows[: 4 * args.prompts]]
    prompts = more[: args.prompts]
    import ray

    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        build_model(model, rows, args.size, 2048)
        measure_rates(model, prompts, more, args.new_tokens)
        measure_latencies(model, prompts, args.new_tokens)
    ray.shutdown()


if __name__ == "__main__":
    main()
