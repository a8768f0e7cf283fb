"""Who answers prompts in benchmarks/generation.py: each as a function that returns its tokens a second."""

from __future__ import annotations

import json
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
from alpagasus_ray.generate.offline_road import OfflineRoad
from alpagasus_ray.generate.roads import EndpointRoad
from alpagasus_ray.llm.asking import Asked
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import GenerateSettings, ServeSettings
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.engine_settings import engine_environment
from alpagasus_ray.serve.model_folder import ServedModel

MODEL = "random"
VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
job = json.load(open(sys.argv[1]))
if __name__ == "__main__":
    llm = LLM(model=job["model"], **job["arguments"])
    how = SamplingParams(max_tokens=job["new_tokens"], temperature=0)
    llm.generate(job["prompts"][:32], how, use_tqdm=False)
    print("RATE 0", flush=True)
    for count in map(int, sys.stdin):
        started_s = time.perf_counter()
        made = llm.generate(job["prompts"][:count], how, use_tqdm=False)
        seconds = time.perf_counter() - started_s
        print("RATE", sum(len(one.outputs[0].token_ids) for one in made) / seconds, flush=True)
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


@contextmanager
def vllm_offline(
    folder: Path, arguments: dict[str, Any], prompts: Sequence[str], new_tokens: int, *, on_gpu: bool
) -> Iterator[Callable[[int], float]]:
    """Yield what has vLLM's LLM.generate answer so many of the prompts, and returns its tokens a second.

    It is in a process of its own, which is idle in between: machines that others share change their speed
    within minutes, so that it is asked right before whatever is held against it.
    """
    job, script, log = (folder.parent / name for name in ("job.json", "offline.py", "offline.log"))
    script.write_text(VLLM)
    what = {"model": str(folder), "arguments": arguments, "prompts": prompts, "new_tokens": new_tokens}
    job.write_text(json.dumps(what))
    surroundings = {**os.environ, **engine_environment(ServeSettings(), on_gpu=on_gpu)}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, str(script), str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=surroundings,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = (line for line in process.stdout if line.startswith("RATE "))

        def rate(count: int = 0) -> float:
            if count:
                print(count, file=process.stdin, flush=True)
            if (line := next(said, None)) is None:
                raise RuntimeError(log.read_text()[-2000:])
            return float(line.split()[1])

        rate()
        yield rate
        process.stdin.close()


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
    first, last = len(requests) // 4, 3 * len(requests) // 4
    return tokens * (last - first) / len(requests) / (clock.times_s[last] - clock.times_s[first])


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


def settings_of(engine: dict[str, Any]) -> ServeSettings:
    """Return how models are served here, with vLLM's own arguments."""
    return ServeSettings(port=0, cpus_per_replica=1, engine=engine)
