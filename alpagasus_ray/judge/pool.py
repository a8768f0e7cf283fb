"""The judge on Ray Data: a pool of actors through which the rows of any stage stream."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayActorError, RayError

from alpagasus_ray.cluster_room import waits_for_room
from alpagasus_ray.console import Progress, duration
from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.jobs import CPUS_PER_ACTOR, Bill, JudgeJob, Spending, as_they_are
from alpagasus_ray.judge.judging import Judge
from alpagasus_ray.judge.metering import JudgeMeter
from alpagasus_ray.judge.pilot_gate import Readable
from alpagasus_ray.judge.portions import portions
from alpagasus_ray.judge.received import Received, numbered, rows_with_places
from alpagasus_ray.judge.tidying import Tidying
from alpagasus_ray.llm.asking import NOT_ASKED, failure_kind
from alpagasus_ray.llm.budget import Activity, Standing
from alpagasus_ray.llm.budget_actor import budget_actor, cluster_dealer
from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_upkeep import tidy
from alpagasus_ray.ray_session import root_cause
from alpagasus_ray.recipe import JudgeSettings
from alpagasus_ray.shared_folder import check_shared
from alpagasus_ray.storage import Storage

ROWS_PER_BLOCK = 256
BLOCKS_AT_ONCE = 1 << 14
"""Handed to Ray Data: 4 million rows. It makes them all before the first is judged, and keeps 4 KiB of each
in the driver: all blocks of 10**8 rows would be minutes and gigabytes."""
BLOCKS_IN_FLIGHT = 16
"""Blocks that an actor works on at once: the slow rows of some keep no slot idle, since the others have
plenty that wait for one."""
FIRST_PORTION = 64
"""Rows, where what is judged may be enough before all are: a sequential sign test at 0.01 is clear after 19
prompts in both orders, where all agree."""
REQUESTS_PER_ACTOR = 32
"""In flight. At 200 ms a reply 64 reach 0.93 of an endpoint's limit through one actor, and 0.97 through two
(benchmarks/grading.py): between replies an actor has its rows to read and to hand on."""
CHUNK_BYTES = 1 << 14
"""Judged rows that come to the driver at once: some dozens."""
STANDING_WITHIN_S = 5.0
LOST_AT_START = 3
"""So many actors in a row may die before they are up; Ray Data's own patience is none."""
MAX_FIRST = 3
WAITED_FOR = frozenset({"rate limited", NOT_ASKED})
"""Failures of a first request that show a judge who is there: the work knows how to wait, or to stop."""


class JudgePool:
    """One job's judge. Its dollars are counted over all that it is asked, in however many parts."""

    def __init__(self, job: JudgeJob, spending: Spending) -> None:
        self._job = job
        self.bill = Bill(job.price, spending)
        self._asked_first: list[dict[str, Any]] = []
        """Before there was a Ray that could count them."""

    @property
    def model(self) -> str:
        """The judge's name."""
        return self._job.settings.model

    def ask_first(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask about a row before anything is started, so that a bad key or address costs no more.

        Where it fails another is tried, MAX_FIRST in all: it may be the row. The reply goes to the ledger
        like any other. Return the rows that were asked about now. Raises UserError with the endpoint's own
        words, or where replies could not be kept.
        """
        job = self._job
        try:
            tidy(job.ledger)
        except OSError as error:
            raise UserError(f"the ledger {job.ledger} cannot be put in order: {error}") from error
        Ledger(job.ledger).prepare()
        once = job.settings.model_copy(update={"max_retries": 0})
        asked: list[dict[str, Any]] = []
        try:
            with closing(Judge(replace(job, settings=once, spent_usd=self.bill.spending.usd), 1)) as judge:
                for row in rows[:MAX_FIRST]:
                    judgment = judge.judge_one(row)
                    self.bill.add([judgment.columns()])
                    self._asked_first.append(judgment.columns())
                    asked += [] if judgment.from_ledger else [row]
                    if judgment.text is not None or failure_kind(judgment.failure or "") in WAITED_FOR:
                        return asked
        except EndpointError as error:
            raise UserError(str(error)) from error
        raise UserError(f"the judge answered none of the first requests ({judgment.failure})")

    def judge(
        self,
        rows: Sequence[dict[str, Any]],
        progress: Progress,
        rows_per_block: int = ROWS_PER_BLOCK,
        rows_of: Callable[[pa.Table], pa.Table] = as_they_are,
        enough: Callable[[], bool] | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield judged rows in chunks as replies come in; see Judge.__call__ for their columns.

        `rows_of` turns a block of what is handed in into rows, in the actor. With `enough`, rows are handed
        on in growing portions (see portions), and it is asked after each whether they suffice: chunks come
        seconds late, so who stops amid them has paid for rows unseen. Raises UserError when the endpoint can
        answer no request: everything answered before is in the ledger.
        """
        account = self._job.account
        if ray.cluster_resources().get("CPU", 0.0) < CPUS_PER_ACTOR:
            raise UserError(
                "the judge's actors want CPUs and the cluster has none: add nodes, or raise wait_for_nodes_s"
            )
        check_shared(Storage(self._job.ledger), "the ledger")
        job = replace(
            self._job,
            rows_of=partial(rows_with_places, rows_of),
            # A name of its own: what the parts before have spent is taken off its dollars already.
            name=uuid.uuid4().hex,
            spent_usd=self.bill.spending.usd,
            dealer=partial(cluster_dealer, account),
        )
        meter = self._meter(progress.stage)
        standing = _Standing(job, meter)
        failed = 0
        try:
            with progress.watching(standing.words):
                for chunk in _in_portions(rows, rows_per_block, job, standing, enough):
                    self.bill.add(chunk)
                    meter.count(chunk)
                    failed += sum(bool(row["failure"]) for row in chunk)
                    words = (self.bill.words(), f"{failed:,} failed" if failed else "")
                    figures = {"failed": failed, "cost_usd": self.bill.cost}
                    progress.advance(len(chunk), ", ".join(filter(None, words)), figures)
                    yield chunk
        except RayError as error:
            cause = root_cause(error)
            if isinstance(cause, EndpointError | UserError):
                # Ray Data adds lines of its own on retries that were not wanted.
                raise UserError(str(cause).partition("\n")[0]) from error
            raise
        finally:
            with suppress(Exception):
                standing.words()  # what came since the last look
            meter.rest()

    def _meter(self, stage: str) -> JudgeMeter:
        meter = JudgeMeter(self._job, stage)
        first, self._asked_first = self._asked_first, []
        meter.count_paid(first)
        meter.count_rate_limited(sum(failure_kind(row["failure"] or "") == "rate limited" for row in first))
        return meter


def _in_portions(
    rows: Sequence[dict[str, Any]],
    rows_per_block: int,
    job: JudgeJob,
    standing: _Standing,
    enough: Callable[[], bool] | None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield judged rows; each portion's judge is proven, or not, by the portion before."""
    is_proven, tidying = False, Tidying(job.ledger)
    for portion in portions(len(rows), BLOCKS_AT_ONCE * rows_per_block, FIRST_PORTION if enough else None):
        if portion.start:
            if enough and enough():
                return
            tidying.begin()
        items, readable, settings = rows[portion], Readable(), job.settings
        if enough:
            settings = for_few_rows(settings, _count_actors(job), len(items))
        standing.has_begun = False
        for chunk in _each_once(items, rows_per_block, replace(job, settings=settings, is_proven=is_proven)):
            standing.has_begun = True
            readable.add(chunk)
            yield chunk
        is_proven = readable.is_proof()


def _count_actors(job: JudgeJob) -> int:
    settings = job.settings
    if settings.num_actors is not None:
        return settings.num_actors
    wanted = math.ceil(settings.max_concurrency / REQUESTS_PER_ACTOR)
    return max(1, min(wanted, int(ray.cluster_resources().get("CPU", 1))))


def for_few_rows(settings: JudgeSettings, num_actors: int, num_rows: int) -> JudgeSettings:
    """Return settings with no more actors than have rows for a pilot each, and for 32 refusals in a row."""
    few = min(num_actors, max(1, num_rows // REQUESTS_PER_ACTOR))
    return settings.model_copy(update={"num_actors": few})


def _each_once(
    rows: Sequence[dict[str, Any]], rows_per_block: int, job: JudgeJob
) -> Iterator[list[dict[str, Any]]]:
    """Yield judged rows; those that went with an actor that died are asked about again."""
    items, received = list(enumerate(rows)), Received()
    while items:
        num_new = 0
        for batch in _judged(items, rows_per_block, job).iter_batches(
            batch_size=None, batch_format="pyarrow"
        ):
            chunk = received.new(batch.to_pylist())
            num_new += len(chunk)
            yield chunk
        missing = set(received.missing(number for number, _ in items))
        # Items without rows are always missing: they end it once nothing else comes.
        items = [item for item in items if item[0] in missing] if num_new else []


def _judged(
    items: Sequence[tuple[int, dict[str, Any]]], rows_per_block: int, job: JudgeJob
) -> ray.data.Dataset:
    num_actors = _count_actors(job)
    num_blocks = max(math.ceil(len(items) / rows_per_block), min(len(items), num_actors))
    # No more than its share: the first actor to be up would take what the others could begin with.
    blocks_in_flight = min(BLOCKS_IN_FLIGHT, math.ceil(num_blocks / num_actors))
    context = ray.data.DataContext.get_current().copy()
    # Or Ray Data keeps an actor's chunks until they make a block of megabytes, and progress stands still.
    context.target_max_block_size = CHUNK_BYTES
    # A node that is lost while an actor starts there is no reason to end.
    context.max_consecutive_actor_init_deaths = LOST_AT_START
    with ray.data.DataContext.current(context):
        # Not from_arrow: that starts a task for each block to look at it.
        return ray.data.from_items(numbered(items), override_num_blocks=num_blocks).map_batches(
            Judge,
            fn_constructor_args=(job, math.ceil(job.settings.max_concurrency / num_actors)),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=CPUS_PER_ACTOR,
            compute=ray.data.ActorPoolStrategy(
                size=num_actors,
                max_tasks_in_flight_per_actor=blocks_in_flight,
                max_concurrent_calls_per_actor=blocks_in_flight,
                enable_true_multi_threading=True,
            ),
        )


class _Standing:
    """How the account stands, for the line of progress. Holds its actor, which lives as long as this."""

    def __init__(self, job: JudgeJob, meter: JudgeMeter) -> None:
        self._job, self._meter = job, meter
        self._actor = budget_actor(job.account)
        self.has_begun = False
        """Whether a row has come in: there is an actor, so there was room for one."""

    def words(self) -> str:
        """Return why rows may not be coming in, empty where nothing is wrong; metrics are kept up to date."""
        standing: Standing
        activity: Activity
        asked = (self._actor.standing.remote(), self._actor.activity.remote(self._job.name))
        try:
            standing, activity = ray.get(list(asked), timeout=STANDING_WITHIN_S)
        except RayActorError:
            self._actor = budget_actor(self._job.account)  # who asks has made it anew
            return ""
        self._meter.stand(standing, activity)
        paused = f"waiting {duration(standing.paused_s)} as asked" if standing.paused_s >= 1 else ""
        retried = f"{standing.num_retrying:,} being tried again" if standing.num_retrying else ""
        room = "" if self.has_begun else waits_for_room("CPU", CPUS_PER_ACTOR)
        return ", ".join(filter(None, (paused, retried, room)))
