"""One actor's work: rows in, the judge's scores or the reason for their absence out. Knows no Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from queue import Queue
from typing import Any, TypeVar

import pyarrow as pa

from alpagasus_ray.judge.providers import account_of, build_judge
from alpagasus_ray.judge.rubrics import Rubric
from alpagasus_ray.judge.score_format import UnreadableScoreError
from alpagasus_ray.judge.scores import READERS
from alpagasus_ray.llm.asking import UNREADABLE, Asked, Asker
from alpagasus_ray.llm.chat import Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import JudgeSettings

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


class Judge:
    """A judge with its rubric, reader and ledger, on an event loop of its own.

    Several threads may hand in blocks at once: all their rows share the loop, the connections and the
    limit of requests in flight, so a slow row holds up nothing but the last chunk of its own block.
    """

    def __init__(
        self, settings: JudgeSettings, reader: str, rubric: Rubric, ledger: str, max_concurrency: int
    ) -> None:
        self._settings, self._rubric = settings, rubric
        self._read = READERS[reader]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="judge", daemon=True).start()
        self._asker = self._on_loop(self._build_asker(ledger, max_concurrency)).result()

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield the block's rows in chunks, in the order of their replies.

        Each row keeps its columns, but for the rubric's own fields, and gains those of JUDGED. Raises
        EndpointError when no request can succeed.
        """
        rows = block.to_pylist()
        passed_on = block.drop_columns([name for name in self._rubric.fields if name in block.column_names])
        schema = pa.schema([*passed_on.schema, *JUDGED])
        chunks: Queue[list[dict[str, Any]] | None] = Queue()
        done = self._on_loop(self._judge_rows(rows, chunks))
        while (chunk := chunks.get()) is not None:
            yield pa.Table.from_pylist(chunk, schema=schema)
        done.result()

    def judge_one(self, row: dict[str, Any]) -> Judgment:
        """Return the judgment of one row."""
        return self._on_loop(self._judge(row)).result()

    def close(self) -> None:
        """Release connections and stop the loop."""
        self._on_loop(self._asker.close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _build_asker(self, ledger: str, max_concurrency: int) -> Asker:
        return Asker(
            build_judge(self._settings), Ledger(f"{ledger}/{account_of(self._settings)}"), max_concurrency
        )

    async def _judge_rows(
        self, rows: list[dict[str, Any]], chunks: Queue[list[dict[str, Any]] | None]
    ) -> None:
        tasks: list[asyncio.Task[dict[str, Any]]] = []
        try:
            self._asker.refresh()
            tasks = [asyncio.ensure_future(self._judged_row(row)) for row in rows]
            chunk: list[dict[str, Any]] = []
            for task in asyncio.as_completed(tasks):
                chunk.append(await task)
                if len(chunk) == CHUNK_ROWS:
                    chunks.put(chunk)
                    chunk = []
            if chunk:
                chunks.put(chunk)
        finally:
            for task in tasks:
                task.cancel()
            chunks.put(None)

    async def _judged_row(self, row: dict[str, Any]) -> dict[str, Any]:
        judgment = await self._judge(row)
        kept = {name: value for name, value in row.items() if name not in self._rubric.fields}
        return {**kept, **asdict(judgment)}

    async def _judge(self, row: dict[str, Any]) -> Judgment:
        sampling = Sampling(self._settings.max_tokens, self._settings.temperature, self._settings.top_p)
        request = Request(self._rubric.render(row), self._settings.model, sampling)
        return self._judgment(await self._asker.ask(request))

    def _judgment(self, asked: Asked) -> Judgment:
        if asked.reply is None:
            return Judgment(None, asked.failure, None, 0, 0, False)
        reply = asked.reply
        usage = (reply.prompt_tokens, reply.completion_tokens, asked.from_ledger)
        try:
            return Judgment(self._read(reply.text, self._rubric), None, reply.text, *usage)
        except UnreadableScoreError as error:
            return Judgment(None, f"{UNREADABLE}: {error}", reply.text, *usage)
