"""One actor's work: rows in, the judge's scores or the reason for their absence out. Knows no Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Queue
from typing import Any, TypeVar

import pyarrow as pa

from alpagasus_ray.judge.jobs import JudgeJob
from alpagasus_ray.judge.pilot_gate import PilotGate
from alpagasus_ray.judge.providers import build_judge
from alpagasus_ray.judge.requests import again_request, request_of
from alpagasus_ray.judge.score_format import UnreadableScoreError
from alpagasus_ray.judge.scores import READERS
from alpagasus_ray.llm.allowance import Allowance
from alpagasus_ray.llm.asking import UNREADABLE, Asked, Asker, is_unreadable
from alpagasus_ray.llm.chat import REFUSED, Reply, Request
from alpagasus_ray.llm.ledger import Ledger

T = TypeVar("T")
CHUNK_ROWS = 64
"""Judged rows are handed on in chunks of this size as they come in, not when a whole block is done."""
JUDGED = pa.schema(
    [
        pa.field("scores", pa.list_(pa.float64())),
        pa.field("failure", pa.string()),
        pa.field("text", pa.string()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("from_ledger", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Judgment:
    """What the judge said of one row: scores, or why there are none."""

    scores: tuple[float, ...] | None
    failure: str | None
    text: str | None
    """The raw reply, kept so that it can be read again for nothing."""
    prompt_tokens: int
    completion_tokens: int
    from_ledger: bool

    def after(self, first: Judgment) -> Judgment:
        """Return this judgment, which a second request led to, with what the first one took.

        The tokens are those of the replies paid for now, or of both where neither was. Where no second reply
        came, the first one's words stand, with the reason for that: it may pass.
        """
        if self.text is None:
            return replace(first, failure=self.failure)
        paid = [one for one in (first, self) if not one.from_ledger] or [first, self]
        return replace(
            self,
            prompt_tokens=sum(one.prompt_tokens for one in paid),
            completion_tokens=sum(one.completion_tokens for one in paid),
            from_ledger=first.from_ledger and self.from_ledger,
        )

    def columns(self) -> dict[str, Any]:
        """Return the values of JUDGED's columns."""
        return vars(self).copy()  # asdict, which copies in depth, takes ten times as long


class Judge:
    """A judge with its rubric, reader and ledger, on an event loop of its own.

    Several threads may hand in blocks at once: all their rows share the loop, the connections and the
    limit of requests in flight, so a slow row holds up nothing but the last chunk of its own block.
    """

    def __init__(self, job: JudgeJob, max_concurrency: int) -> None:
        self._job = job
        self._read = READERS[job.reader]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="judge", daemon=True).start()
        self._asker = self._on_loop(self._build_asker(max_concurrency)).result()
        self._gate = PilotGate(job.settings.model) if job.stop_unreadable and not job.is_proven else None

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield the block's rows in chunks, in the order of their replies.

        Each row keeps its columns, but for the rubric's own fields, and gains those of JUDGED. Raises
        EndpointError when no request can succeed.
        """
        table = self._job.rows_of(block)
        fields = [name for name in self._job.rubric.fields if name in table.column_names]
        schema = pa.schema([*table.drop_columns(fields).schema, *JUDGED])
        chunks: Queue[list[dict[str, Any]] | None] = Queue()
        done = self._on_loop(self._judge_rows(table.to_pylist(), chunks))
        while (chunk := chunks.get()) is not None:
            yield pa.Table.from_pylist(chunk, schema=schema)
        done.result()

    def judge_one(self, row: dict[str, Any]) -> Judgment:
        """Return the judgment of one row."""
        request = request_of(row, self._job.rubric, self._job.settings)

        async def judge() -> Judgment:
            known = await self._asker.known([request.key])
            first = self._judgment(Asked(known[request.key], from_ledger=True)) if known else None
            return await self._judge(request, first)

        return self._on_loop(judge()).result()

    def close(self) -> None:
        """Release connections and stop the loop."""
        self._on_loop(self._asker.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _build_asker(self, max_concurrency: int) -> Asker:
        job = self._job
        allowance = Allowance(job.dealer(), job.limits, job.name)
        limits = job.asking_limits(max_concurrency)
        model, ledger = build_judge(job.settings), Ledger(job.ledger)
        return Asker(model, ledger, limits, allowance, has_replied=job.is_proven)

    async def _judge_rows(
        self, rows: list[dict[str, Any]], chunks: Queue[list[dict[str, Any]] | None]
    ) -> None:
        tasks: list[asyncio.Task[dict[str, Any]]] = []
        try:
            requests = [request_of(row, self._job.rubric, self._job.settings) for row in rows]
            keys = [request.key for request in requests]
            known = await self._asker.known(keys)
            chunk: list[dict[str, Any]] = []
            for row, request, key in zip(rows, requests, keys, strict=True):
                judgment = self._judgment(Asked(known[key], from_ledger=True)) if key in known else None
                if judgment is not None and not self._is_to_be_asked_again(judgment):
                    chunk.append(self._row(row, judgment))
                else:
                    tasks.append(asyncio.ensure_future(self._judged_row(row, request, judgment)))
            while len(chunk) >= CHUNK_ROWS:
                chunks.put(chunk[:CHUNK_ROWS])
                chunk = chunk[CHUNK_ROWS:]
            for task in asyncio.as_completed(tasks):
                chunk.append(await task)
                if len(chunk) == CHUNK_ROWS:
                    chunks.put(chunk)
                    chunk = []
            if tasks:
                await self._asker.flush()  # nobody closes an actor: what it has not stored by now it may lose
            if chunk:
                chunks.put(chunk)
        finally:
            for task in tasks:
                task.cancel()
            chunks.put(None)

    async def _judged_row(
        self, row: dict[str, Any], request: Request, first: Judgment | None
    ) -> dict[str, Any]:
        if self._gate is None:
            return self._row(row, await self._judge(request, first))
        async with self._gate.row() as looked_at:
            looked_at.judgment = await self._judge(request, first)
        return self._row(row, looked_at.judgment)

    def _row(self, row: dict[str, Any], judgment: Judgment) -> dict[str, Any]:
        kept = {name: value for name, value in row.items() if name not in self._job.rubric.fields}
        return {**kept, **judgment.columns()}

    async def _judge(self, request: Request, first: Judgment | None = None) -> Judgment:
        """Return the judgment that a request leads to; `first` is the one that the ledger had."""
        if first is None:
            asked = await self._asker.ask(request, is_new=True)
            first = self._judgment(asked)
        if not self._is_to_be_asked_again(first):
            return first
        assert first.text is not None
        again = await self._asker.ask(again_request(request, first.text, self._job.again))
        return self._judgment(again).after(first)

    def _is_to_be_asked_again(self, judgment: Judgment) -> bool:
        return bool(self._job.again) and bool(judgment.text) and is_unreadable(judgment.failure)

    def _judgment(self, asked: Asked) -> Judgment:
        if asked.reply is None:
            return Judgment(None, asked.failure, None, 0, 0, False)
        return self._judgment_of_reply(asked.reply, asked.from_ledger)

    def _judgment_of_reply(self, reply: Reply, from_ledger: bool) -> Judgment:
        usage = (reply.prompt_tokens, reply.completion_tokens, from_ledger)
        if reply.refusal is not None:
            return Judgment(None, f"{REFUSED}: {reply.refusal}", reply.text, *usage)
        try:
            return Judgment(self._read(reply.text, self._job.rubric), None, reply.text, *usage)
        except UnreadableScoreError as error:
            return Judgment(None, f"{UNREADABLE}: {error}", reply.text, *usage)
