"""What grading would ask: the rows that are not in the ledger, and those that the guard spoils on purpose."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.corpus.committing import rows_of, source_of
from alpagasus_ray.corpus.ingest import KeptRow
from alpagasus_ray.errors import UserError
from alpagasus_ray.estimating.forecasts import NOBODY_ASKED, Forecast, Workload, forecast
from alpagasus_ray.estimating.prompt_tokens import CHARACTERS_PER_TOKEN, SampledSum, assumed_reply
from alpagasus_ray.grade.pilot import PilotSample, planted
from alpagasus_ray.judge.providers import account_of
from alpagasus_ray.judge.requests import request_of
from alpagasus_ray.judge.rubric_files import load_rubrics
from alpagasus_ray.judge.rubrics import Rubric
from alpagasus_ray.llm.chat import Request
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.token_counts import token_counter
from alpagasus_ray.recipe import CorpusSettings, GradeSettings, Recipe
from alpagasus_ray.storage import Storage

CHUNK = 10_000
"""Requests that are looked up in the ledger at once."""
MIN_REPLIES, MAX_REPLIES = 30, 1_000
"""So many of the ledger's replies tell how long a reply is; fewer say too little, more nothing new."""
GRADING_REPLY_TOKENS = 90
"""Assumed of a reply where the ledger has none: half of a review of two answers (comparing.py), as it speaks
of one instead of two and their difference. What a reasoning model thinks is paid for too: of it only the most
(max_tokens) can be told."""


class RowTally:
    """Counts rows as they pass by, and how long their outputs are."""

    def __init__(self) -> None:
        self.rows = self.set_aside = self.duplicates = 0
        self._output_characters = 0

    def unique(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows that are asked about."""
        for row in rows:
            self.rows += 1
            self._output_characters += len(row["output"])
            self.duplicates += row["duplicate"]
            if not row["duplicate"]:
                yield row

    @property
    def output_tokens(self) -> float:
        """The mean length of an output in tokens; 0 where there are no rows."""
        return self._output_characters / self.rows / CHARACTERS_PER_TOKEN if self.rows else 0.0


def grading(run: RunDirectory, recipe: Recipe, tally: RowTally) -> Forecast:
    """Return the forecast for the corpus' rows, which `tally` counts meanwhile.

    Raises UserError for data, rubrics or a tokenizer that cannot be read.
    """
    settings = recipe.grade
    counter = token_counter(settings.model, settings.tokenizer)
    rows = tally.unique(_rows(run, recipe.corpus, tally))
    if settings.import_reviews is not None:
        deque(rows, maxlen=0)
        return forecast("grade", settings, NOBODY_ASKED, recipe.prices)
    rubrics, sample = load_rubrics(settings), PilotSample(settings.guard)
    replies = _LedgerReplies(Storage(recipe.ledger or run.ledger).child_uri(account_of(settings)))
    prompts, calls = SampledSum(), 0
    for chunk in _chunks(_requests(rows, rubrics, settings, sample), CHUNK):
        calls += len(chunk)
        for request in replies.without_known(chunk):
            prompts.add_prompt(request, counter)
    reply_tokens, by = replies.mean_tokens() or assumed_reply(GRADING_REPLY_TOKENS, settings)
    tokens = prompts.tokens
    work = Workload(calls, calls - prompts.num_texts, tokens, tokens, counter.method, reply_tokens, by)
    return forecast("grade", settings, work, recipe.prices)


def _rows(run: RunDirectory, corpus: CorpusSettings, tally: RowTally) -> Iterator[dict[str, Any]]:
    """Yield the corpus' rows, of the data or as the run has them; count those that are set aside."""
    if corpus.data is not None:
        _, rows = rows_of(source_of(run, corpus), corpus)
        for row in rows:
            if isinstance(row, KeptRow):
                yield row.record
            else:
                tally.set_aside += 1
        return
    manifest = run.manifest(run.triplets)
    if manifest is None:
        raise UserError("no data: give --data FILE (or --set corpus.data=FILE)")
    tally.set_aside = manifest.counts["rejected"]
    for table in run.each_table(run.triplets):
        yield from table.to_pylist()


def _requests(
    rows: Iterable[Mapping[str, str]], rubrics: Sequence[Rubric], settings: GradeSettings, sample: PilotSample
) -> Iterator[Request]:
    """Yield what is asked about the rows, and then about those that the guard spoils on purpose."""
    for row in rows:
        sample.add(row)
        yield from (request_of(row, rubric, settings) for rubric in rubrics)
    guard = settings.guard
    for rubric in rubrics:
        if "output" in rubric.fields:
            fields = [{name: row[name] for name in ("id", *rubric.fields)} for row in sample.rows()]
            for one in planted(fields, guard.planted_rows, guard.seed):
                yield request_of(one.row, rubric, settings)


class _LedgerReplies:
    """What a judge's ledger knows of requests; a ledger that is not there knows nothing."""

    def __init__(self, folder: str) -> None:
        self._ledger = Ledger(folder)
        self._reply_tokens: list[int] = []

    def without_known(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests whose reply is not known."""
        if not len(self._ledger):
            return list(requests)
        by_key = {request.key: request for request in requests}
        known = self._ledger.known(list(by_key))
        wanted = sorted(known)[: MAX_REPLIES - len(self._reply_tokens)]
        replies = self._ledger.lookup_many(wanted).values()
        self._reply_tokens += [reply.completion_tokens for reply in replies if reply.completion_tokens]
        return [request for key, request in by_key.items() if key not in known]

    def mean_tokens(self) -> tuple[float, str] | None:
        """Return the mean length of the known replies in tokens, and that in words; None for too few."""
        if len(self._reply_tokens) < MIN_REPLIES:
            return None
        mean = sum(self._reply_tokens) / len(self._reply_tokens)
        return mean, f"{mean:.0f} a reply as in the ledger"


def _chunks(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    iterator = iter(requests)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
