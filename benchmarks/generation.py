"""Answering prompts beside vLLM's own offline engine: the same model, prompts and lengths in one run.

    python -m benchmarks.generation --data random_9k.json
    python -m benchmarks.generation --data random_9k.json --size 1b --prompts 2048   # on a GPU

A Llama with random weights is made first. Every contender answers the same prompts greedily: vLLM's
LLM.generate (what the engine can do), the endpoint through our client, a client of 64 threads as one writes
it first, the offline road inside Ray Data, and transformers one prompt at a time (a few of them). Start-up is
left out: each is warm before its clock starts; the offline road has four times the prompts, and its clock
runs from the first quarter of the answers to the last. Then latencies with 1, 16 and 64 clients, and with a
long shared head before every prompt, with and without prefix caching. Figures mean something
only beside each other.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpagasus_ray.answering import offline_engine
from alpagasus_ray.console import Progress, plain_console
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.generate.offline_road import OfflineRoad
from alpagasus_ray.generate.roads import EndpointRoad
from alpagasus_ray.llm.asking import Asked
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import GenerateSettings, ServeSettings
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.engine_settings import engine_arguments, engine_environment
from alpagasus_ray.serve.engines import engines_of
from alpagasus_ray.serve.model_folder import ServedModel
from benchmarks.random_model import SIZES, build_model

MODEL = "random"
HEADED_TOKENS = 16
SHARED_HEAD = "Answer as a patient teacher would, in plain words and with one example. " * 24
VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
job = json.load(open(sys.argv[1]))
if __name__ == "__main__":
    llm = LLM(model=job["model"], **job["arguments"])
    how = SamplingParams(max_tokens=job["new_tokens"], temperature=0)
    llm.generate(job["prompts"][:32], how, use_tqdm=False)
    for count in job["counts"]:
        started_s = time.perf_counter()
        made = llm.generate(job["prompts"][:count], how, use_tqdm=False)
        seconds = time.perf_counter() - started_s
        print("RESULT", json.dumps(sum(len(one.outputs[0].token_ids) for one in made) / seconds))
"""


class Clock(Progress):
    """A progress that notes when each answer came."""

    def __init__(self, total: int) -> None:
        super().__init__(plain_console(), "answers", total, "prompts")
        self.times_s: list[float] = []

    def advance(
        self, count: int = 1, note: str | None = None, figures: Mapping[str, Any] | None = None
    ) -> None:
        """Note the time."""
        self.times_s += [time.perf_counter()] * count

    def close(self) -> None:
        """Say nothing."""


def requests_of(prompts: Sequence[str], new_tokens: int) -> list[Request]:
    """Return what is asked."""
    sampling = Sampling(new_tokens)
    return [Request((Message("user", text),), MODEL, sampling, raw_prompt=True) for text in prompts]


def tokens_of(answers: Sequence[Asked]) -> int:
    """Return how many tokens were made; raises RuntimeError where one prompt has none."""
    if failed := [one.failure for one in answers if one.reply is None]:
        raise RuntimeError(f"{len(failed)} prompts have no answer: {failed[0]}")
    return sum(one.reply.completion_tokens for one in answers if one.reply)


def by_vllm(
    folder: Path,
    arguments: dict[str, Any],
    prompts: Sequence[str],
    counts: Sequence[int],
    new_tokens: int,
    *,
    on_gpu: bool,
) -> list[float]:
    """Return the tokens a second of LLM.generate with each count of the prompts, in a process of its own."""
    job, script = folder.parent / "job.json", folder.parent / "offline.py"
    script.write_text(VLLM)
    what = {"prompts": prompts, "counts": counts, "new_tokens": new_tokens}
    job.write_text(json.dumps({"model": str(folder), "arguments": arguments} | what))
    environment = engine_environment(ServeSettings(), on_gpu=on_gpu)
    command = [sys.executable, str(script), str(job)]
    surroundings = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        raise RuntimeError(done.stderr[-2000:])
    return [float(line.removeprefix("RESULT ")) for line in results]


def by_endpoint(endpoint: Endpoint, requests: Sequence[Request], in_flight: int, folder: Path) -> float:
    """Return the tokens a second of our client."""
    road = EndpointRoad(endpoint.base_url, None, GenerateSettings(max_concurrency=in_flight), is_ours=True)
    with tempfile.TemporaryDirectory(dir=folder) as replies:
        started_s = time.perf_counter()
        answers = road(requests, Ledger(replies), Clock(len(requests)))
        return tokens_of(answers) / (time.perf_counter() - started_s)


def by_threads(endpoint: Endpoint, prompts: Sequence[str], new_tokens: int, threads: int) -> float:
    """Return the tokens a second of the official client in so many threads."""
    import openai

    client = openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0, timeout=600)

    def ask(prompt: str) -> int:
        answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=new_tokens, temperature=0)
        return answer.usage.completion_tokens if answer.usage else 0

    started_s = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        tokens = sum(pool.map(ask, prompts))
    return tokens / (time.perf_counter() - started_s)


def by_offline_road(folder: Path, requests: Sequence[Request], settings: ServeSettings) -> float:
    """Return the tokens a second of the road through Ray Data, once it runs."""
    import ray
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {one.key: tokenizer(one.messages[0].content)["input_ids"] for one in requests}
    engine = offline_engine(ServedModel(MODEL, str(folder)), settings, ray.cluster_resources())
    clock = Clock(len(requests))
    with tempfile.TemporaryDirectory(dir=folder.parent) as replies:
        tokens = tokens_of(OfflineRoad(engine, ids)(requests, Ledger(replies), clock))
    first = len(clock.times_s) // 4
    return tokens * (1 - first / len(requests)) / (clock.times_s[-1] - clock.times_s[first - 1])


def by_transformers(folder: Path, prompts: Sequence[str], new_tokens: int) -> float:
    """Return the tokens a second of transformers' generate, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    started_s, tokens = time.perf_counter(), 0
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").to(model.device)
        made = model.generate(**ids, max_new_tokens=new_tokens, do_sample=False)
        tokens += made.shape[1] - ids["input_ids"].shape[1]
    return tokens / (time.perf_counter() - started_s)


def latencies(endpoint: Endpoint, prompts: Sequence[str], new_tokens: int, clients: int) -> tuple[float, ...]:
    """Return p50 and p99 of whole answers, and p50 of the time to the first token of a stream, in seconds."""
    import openai

    client = openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0, timeout=600)

    def ask(prompt: str) -> tuple[float, float]:
        started_s, first_s = time.perf_counter(), 0.0
        for _ in client.completions.create(
            model=MODEL, prompt=prompt, max_tokens=new_tokens, temperature=0, stream=True
        ):
            first_s = first_s or time.perf_counter() - started_s
        return time.perf_counter() - started_s, first_s

    with ThreadPoolExecutor(clients) as pool:
        seen = list(pool.map(ask, prompts))
    whole = statistics.quantiles([one for one, _ in seen], n=100, method="inclusive")
    return whole[49], whole[98], statistics.median(first for _, first in seen)


@contextmanager
def served(folder: Path, settings: ServeSettings, prompts: Sequence[str]) -> Iterator[Endpoint]:
    """Serve the model, warm."""
    from alpagasus_ray.serve.serving import serving

    with serving([ServedModel(MODEL, str(folder))], settings) as endpoint:
        by_threads(endpoint, prompts[:64], 64, 64)
        yield endpoint


def measure(
    folder: Path, prompts: Sequence[str], more: Sequence[str], new_tokens: int, say: Callable[[str], None]
) -> None:
    """Say every figure; `more` prompts are for the offline road, whose start is cut off."""
    import ray

    settings = ServeSettings(port=0, cpus_per_replica=1)
    (engine,) = engines_of([ServedModel(MODEL, str(folder))])
    requests = requests_of(prompts, new_tokens)
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    on_gpu = ray.cluster_resources().get("GPU", 0) > 0
    arguments = engine_arguments(engine, settings, on_gpu=on_gpu)
    counts = (len(prompts), len(more))
    offline, longer = by_vllm(folder, arguments, more, counts, new_tokens, on_gpu=on_gpu)

    def told(name: str, rate: float, beside: float = offline) -> None:
        say(f"{name:<44}{rate:>9,.0f} tokens/s{rate / beside:>8.2f} of vLLM offline")

    told(f"vLLM offline (LLM.generate), {len(more):,} prompts", longer, longer)
    told(
        f"offline road (Ray Data), {len(more):,} prompts",
        by_offline_road(folder, requests_of(more, new_tokens), settings),
        longer,
    )
    told(f"vLLM offline (LLM.generate), {len(prompts):,} prompts", offline)
    told("transformers, one at a time", by_transformers(folder, prompts[:8], new_tokens))
    with served(folder, settings, prompts) as endpoint:
        for in_flight in (64, 256, 512):
            rate = by_endpoint(endpoint, requests, in_flight, folder.parent)
            told(f"endpoint, ours, {in_flight} in flight", rate)
        told("endpoint, 64 threads", by_threads(endpoint, prompts, new_tokens, 64))
        for clients in (1, 16, 64):
            p50_s, p99_s, first_s = latencies(endpoint, prompts[: 8 * clients][:256], new_tokens, clients)
            say(
                f"{clients:>3} clients: p50 {p50_s:.2f} s, p99 {p99_s:.2f} s, first token p50 {first_s:.3f} s"
            )
    headed = requests_of([SHARED_HEAD + prompt for prompt in prompts], HEADED_TOKENS)
    for caching, word in ((False, "off"), (True, "on")):
        how = settings.model_copy(update={"engine": {"enable_prefix_caching": caching}})
        with served(folder, how, prompts) as endpoint:
            rate = by_endpoint(endpoint, headed, 128, folder.parent)
            say(f"shared head, {HEADED_TOKENS} new tokens, prefix caching {word}: {rate:,.0f} tokens/s")
    ray.shutdown()


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
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / MODEL
        build_model(model, rows, args.size, 2048)
        measure(model, more[: args.prompts], more, args.new_tokens, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
