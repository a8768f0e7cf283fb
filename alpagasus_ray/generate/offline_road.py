"""Answers from vLLM's engine inside Ray Data: no server, no HTTP, and replicas that go with the work."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alpagasus_ray.causes import cause_in_one_line
from alpagasus_ray.console import Progress
from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.asking import Asked
from alpagasus_ray.llm.chat import Reply, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger

ROWS_PER_BATCH = 32
BATCHES_IN_HAND = 16
"""Of a replica, so that its engine is never short of work."""
NUMBER = "number"
FAILED = "refused request"
TOLD = (NUMBER, "generated_tokens", "generated_text", "num_input_tokens", "__inference_error__")


@dataclass(frozen=True)
class OfflineEngine:
    """What is to be started, and where."""

    folder: str
    arguments: Mapping[str, Any]
    """vLLM's."""
    environment: Mapping[str, str]
    bundle: Mapping[str, float]
    """What Ray sets aside for each of the engine's workers."""
    num_replicas: int
    patience_s: float
    """How long no row at all may arrive: a model has to load, and Ray Data waits for ever for a dead one."""
    end_ids: frozenset[int]
    """Tokens that end an answer."""
    max_length_tokens: int | None
    """Of prompt and answer together. None: not known."""
    adapter: str | None = None
    """The folder of an adapter over the model."""
    output_kind: Callable[[], Any] | None = None
    """Returns when the engine makes an output of an answer: what unpickles to vLLM's RequestOutputKind."""


@dataclass(frozen=True)
class OfflineRoad:
    """A Road: each request's tokens go straight to the engine."""

    engine: OfflineEngine
    token_ids: Mapping[str, Sequence[int]] = field(repr=False)
    """By the request's key."""

    def __call__(self, requests: Sequence[Request], replies: Ledger, progress: Progress) -> list[Asked]:
        """Return what became of each request, as Road says; raises UserError where no engine runs."""
        from ray.exceptions import RayActorError

        keys = [request.key for request in requests]
        asked = {key: Asked(reply, from_ledger=True) for key, reply in replies.lookup_many(keys).items()}
        progress.found(sum(key in asked for key in keys))
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in asked}
        numbered, times = list(missing), Counter(keys)
        rows = [
            _row(number, self.token_ids[key], missing[key].sampling) for number, key in enumerate(numbered)
        ]
        try:
            for row in self._answered(rows) if rows else ():
                key = numbered[row[NUMBER]]
                asked[key] = outcome(row, missing[key].sampling, self.engine)
                if (reply := asked[key].reply) is not None:
                    replies.record(key, reply, missing[key].model)
                progress.advance(times[key])
        except RayActorError as error:
            raise UserError(f"vLLM's engine does not run: {cause_in_one_line(str(error))}") from error
        finally:
            replies.close()
        return [asked[key] for key in keys]

    def _answered(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the engine's rows as they come."""
        quieten()
        import ray.data
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        engine = self.engine
        config = vLLMEngineProcessorConfig(
            model_source=engine.folder,
            engine_kwargs=dict(engine.arguments),
            runtime_env={"env_vars": dict(engine.environment)},
            placement_group_config={"bundle_per_worker": dict(engine.bundle)},
            concurrency=engine.num_replicas,
            batch_size=ROWS_PER_BATCH,
            max_concurrent_batches=BATCHES_IN_HAND,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            should_continue_on_error=True,
            log_engine_metrics=False,
        )
        processor = build_processor(config, preprocess=prepared(engine), postprocess=told)
        blocks = max(1, -(-len(rows) // ROWS_PER_BATCH))
        answered = processor(ray.data.from_items(rows, override_num_blocks=blocks))
        return within(answered.iter_rows, engine.patience_s)


def quieten() -> None:
    """Keep off this process's terminal what is no news: mirrors not configured, what a CPU does not have."""
    rays = logging.getLogger("ray.llm")
    if not rays.handlers:  # then each logger below it would make a handler and a level of its own
        rays.addHandler(logging.StreamHandler())
    rays.propagate = False
    rays.setLevel(logging.WARNING)
    # vLLM's own configuration, at its import, takes levels away and leaves filters.
    logging.getLogger("vllm.triton_utils.importing").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def prepared(engine: OfflineEngine) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what makes of a row one for the engine's process, in processes that have not imported vLLM.

    The output kind is made there and travels in the row: in the function it would be unpickled before.
    """
    model = {} if engine.adapter is None else {"model": engine.adapter}
    output_kind = engine.output_kind

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        kind = {} if output_kind is None else {"output_kind": output_kind()}
        return {**row, **model, "sampling_params": {**row["sampling_params"], **kind}}

    return prepare


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what outcome() reads of the engine's row."""
    return {name: row[name] for name in TOLD}


def _row(number: int, token_ids: Sequence[int], sampling: Sampling) -> dict[str, Any]:
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    params: dict[str, Any] = {"max_tokens": sampling.max_tokens}
    params |= {name: value for name, value in drawn.items() if value is not None}
    if sampling.stop:
        # With the text itself, which outcome() takes away: nothing else shows that it ended the answer.
        params |= {"stop": list(sampling.stop), "include_stop_str_in_output": True}
    return {NUMBER: number, "prompt": "", "tokenized_prompt": list(token_ids), "sampling_params": params}


def outcome(row: Mapping[str, Any], sampling: Sampling, engine: OfflineEngine) -> Asked:
    """Return what an engine's row says became of a request.

    Ray Data's rows do not say why an answer ended: it was cut where it is as long as was allowed, or as the
    model can go on, and neither a stop text nor its last token ends it.
    """
    if row["__inference_error__"]:
        return Asked(None, failure=f"{FAILED}: {row['__inference_error__']}")
    made = [int(token) for token in row["generated_tokens"]]
    prompt_tokens = int(row["num_input_tokens"])
    is_full = prompt_tokens + len(made) >= (engine.max_length_tokens or float("inf"))
    text = str(row["generated_text"])
    ending = next((stop for stop in sampling.stop if text.endswith(stop)), None)
    is_ended = ending is not None or not made or made[-1] in engine.end_ids
    is_cut = (len(made) >= sampling.max_tokens or is_full) and not is_ended
    return Asked(
        Reply(
            text=text.removesuffix(ending or ""),
            finish_reason="length" if is_cut else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(made),
        )
    )


def within(rows_of: Callable[[], Iterator[dict[str, Any]]], patience_s: float) -> Iterator[dict[str, Any]]:
    """Yield rows as they come; raises UserError where none has come for so many seconds."""
    ready: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()

    def read() -> None:
        try:
            for row in rows_of():
                ready.put(row)
        except BaseException as error:
            ready.put(error)
        else:
            ready.put(None)

    threading.Thread(target=read, name="offline-answers", daemon=True).start()
    while True:
        try:
            row = ready.get(timeout=patience_s)
        except queue.Empty:
            raise UserError(
                f"No answer has come for {patience_s:g} s: the engine has not started, or has died. "
                "Ray's logs say why; free CPUs, GPUs or memory, or raise serve.startup_timeout_s"
            ) from None
        if row is None:
            return
        if isinstance(row, BaseException):
            raise row
        yield row
