"""The judge at work on an endpoint: every row comes out, with scores or with the reason for their absence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from aiohttp import web

from alpagasus_ray.errors import StoppedEarly, UserError
from alpagasus_ray.judge.jobs import Spending, judge_job
from alpagasus_ray.judge.judging import CHUNK_ROWS, JUDGED, Judge
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS, RUBRICS, Rubric
from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import JudgeSettings, Recipe
from tests.loopback import Body, LoopbackServer, error

ACCURACY = RUBRICS["accuracy"]


def rows(count: int, first: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"id": f"id-{number}", "instruction": f"Task <{number}>", "input": "", "output": "Done."}
            for number in range(first, first + count)
        ]
    )


def number_of(body: Body) -> int:
    return int(body["messages"][-1]["content"].partition("<")[2].partition(">")[0])


class Judges:
    """Judges on one endpoint and one ledger."""

    def __init__(self, endpoint: LoopbackServer, ledger: Path) -> None:
        self._settings = JudgeSettings(base_url=endpoint.base_url, model="judge", max_retries=0)
        self.ledger = str(ledger)
        self._made: list[Judge] = []

    def judge(
        self, max_concurrency: int = 32, reader: str = "robust", rubric: Any = ACCURACY, **of_job: Any
    ) -> Judge:
        job = judge_job(Recipe(), self._settings, rubric, reader, self.ledger)
        job = replace(job, **of_job)
        self._made.append(Judge(job, max_concurrency))
        return self._made[-1]

    def close(self) -> None:
        for judge in self._made:
            judge.close()


@pytest.fixture
def judges(endpoint: LoopbackServer, tmp_path: Path) -> Iterator[Judges]:
    made = Judges(endpoint, tmp_path / "ledger")
    yield made
    made.close()


def judged(judge: Judge, table: pa.Table) -> list[dict[str, Any]]:
    return [row for chunk in judge(table) for row in chunk.to_pylist()]


def test_every_row_comes_out_with_its_own_score(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: f"{number_of(body) % 10 / 2}\nBecause."
    out = judged(judges.judge(), rows(150))
    assert {row["id"]: row["scores"] for row in out} == {
        f"id-{number}": [number % 10 / 2] for number in range(150)
    }
    assert {(row["failure"], row["from_ledger"]) for row in out} == {(None, False)}
    assert endpoint.asked.total() == 150


def test_the_columns_are_the_rows_own_and_the_judgments(judges: Judges) -> None:
    table = rows(3).append_column("extra", pa.array([1.5, None, 2.5]))
    chunks = list(judges.judge()(table))
    expected = pa.schema([("id", pa.string()), ("extra", pa.float64()), *JUDGED])
    assert all(chunk.schema.equals(expected) for chunk in chunks)
    out = sorted((row for chunk in chunks for row in chunk.to_pylist()), key=lambda row: row["id"])
    assert [row["extra"] for row in out] == [1.5, None, 2.5]
    assert out[0]["prompt_tokens"] > 50
    assert out[0]["completion_tokens"] > 3


def test_chunks_are_of_the_size_that_is_promised(judges: Judges) -> None:
    sizes = [chunk.num_rows for chunk in judges.judge()(rows(2 * CHUNK_ROWS + 5))]
    assert sizes == [CHUNK_ROWS, CHUNK_ROWS, 5]


def test_a_block_without_rows_gives_none(judges: Judges, endpoint: LoopbackServer) -> None:
    assert list(judges.judge()(rows(0))) == []
    assert endpoint.asked.total() == 0


def test_a_slow_row_holds_up_only_the_last_chunk(judges: Judges, endpoint: LoopbackServer) -> None:
    may_answer = threading.Event()

    class Slow(web.Response):
        async def prepare(self, request: web.BaseRequest) -> Any:
            while not may_answer.is_set():
                await asyncio.sleep(0.01)
            return await super().prepare(request)

    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "4"}}
    endpoint.fault = lambda body, times: (
        Slow(text=web.json_response({"choices": [choice]}).text, content_type="application/json")
        if number_of(body) == 0
        else None
    )
    chunks = judges.judge()(rows(CHUNK_ROWS + 1))
    first = next(chunks)
    assert "id-0" not in first["id"].to_pylist()
    may_answer.set()
    (last,) = list(chunks)
    assert [(row["id"], row["scores"]) for row in last.to_pylist()] == [("id-0", [4.0])]


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        ("", "unreadable: empty"),
        ("I would rather not say.", "unreadable"),
        ("7\nGreat.", "unreadable"),
        ("4.5 3.5\nWhich?", "unreadable"),
    ],
)
def test_a_reply_without_a_score_is_kept_with_the_reason(
    judges: Judges, endpoint: LoopbackServer, reply: str, failure: str
) -> None:
    endpoint.reply = lambda body: reply if number_of(body) == 1 else "4\nFine."
    by_id = {row["id"]: row for row in judged(judges.judge(), rows(3))}
    assert by_id["id-1"]["scores"] is None
    assert by_id["id-1"]["failure"].startswith(failure)
    assert by_id["id-1"]["text"] == reply
    assert [by_id[name]["scores"] for name in ("id-0", "id-2")] == [[4.0], [4.0]]


def test_an_unreadable_reply_is_not_paid_for_again(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "I would rather not say."
    first, second = judged(judges.judge(), rows(2)), judged(judges.judge(), rows(2))
    assert [row["failure"] for row in first] == [row["failure"] for row in second]
    assert all(row["from_ledger"] for row in second)
    assert endpoint.asked.total() == 2


def test_a_row_that_gets_no_reply_has_no_text(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.fault = lambda body, times: (
        error(400, "Too long.", "context_length_exceeded") if number_of(body) == 1 else None
    )
    by_id = {row["id"]: row for row in judged(judges.judge(), rows(3))}
    lost = by_id.pop("id-1")
    assert (lost["scores"], lost["text"], lost["failure"]) == (None, None, "too long: Too long.")
    assert (lost["prompt_tokens"], lost["completion_tokens"]) == (0, 0)
    assert all(row["scores"] for row in by_id.values())


@pytest.mark.parametrize("reply", ["4.5\nhalf a \ud83d", "\ud83d", "4.5\n\0", "4\n" + "word " * 200_000])
def test_no_reply_stops_the_block(judges: Judges, endpoint: LoopbackServer, reply: str) -> None:
    """One such reply in the ledger would stop every later run at the same place."""
    endpoint.reply = lambda body: reply if number_of(body) == 1 else "4\nFine."
    out = {row["id"]: row for row in judged(judges.judge(), rows(3))}
    assert [out[name]["scores"] for name in ("id-0", "id-2")] == [[4.0], [4.0]]
    assert out["id-1"]["scores"] or out["id-1"]["failure"]


def test_two_scores_come_out_in_slot_order(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "8 6.5\nThe first is better."
    table = pa.Table.from_pylist(
        [{"prompt_id": "p", "order": "first", "question": "Hi?", "answer_1": "a", "answer_2": "b"}]
    )
    (row,) = judged(judges.judge(rubric=PAIRWISE_RUBRICS["pairwise"]), table)
    assert row["scores"] == [8.0, 6.5]
    assert list(row) == ["prompt_id", "order", *JUDGED.names]


def test_several_threads_share_the_limit(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.latency_s = 0.02
    endpoint.reply = lambda body: f"{number_of(body) % 5}\nBecause."
    judge = judges.judge(max_concurrency=8)
    blocks = [rows(40, first=40 * number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        out = list(pool.map(lambda block: judged(judge, block), blocks))
    for block, own in zip(blocks, out, strict=True):
        assert sorted(row["id"] for row in own) == sorted(block["id"].to_pylist())
        assert all(row["scores"] == [int(row["id"][3:]) % 5] for row in own)
    assert endpoint.max_in_flight == 8


def test_a_second_judge_pays_for_nothing_again(judges: Judges, endpoint: LoopbackServer) -> None:
    first, second = judges.judge(), judges.judge()
    judged(first, rows(20))
    out = judged(second, rows(25))
    assert sum(row["from_ledger"] for row in out) == 20
    assert max(endpoint.asked.values()) == 1


def test_an_endpoint_that_can_answer_nothing_ends_every_thread(
    judges: Judges, endpoint: LoopbackServer
) -> None:
    endpoint.fault = lambda body, times: error(401, "No such key.", "invalid_api_key")
    judge = judges.judge()

    def try_it(first: int) -> str:
        with pytest.raises(EndpointError) as caught:
            judged(judge, rows(10, first))
        return str(caught.value)

    with ThreadPoolExecutor(3) as pool:
        assert all("No such key." in said for said in pool.map(try_it, (0, 10, 20)))


def test_one_forbidden_text_is_one_failure_and_no_end(judges: Judges, endpoint: LoopbackServer) -> None:
    """A gateway's filter answers 403 to single texts."""
    endpoint.fault = lambda body, times: error(403, "Blocked.", "waf") if number_of(body) == 20 else None
    out = judged(judges.judge(max_concurrency=1), rows(50))
    assert [row["failure"] for row in out if row["failure"]] == [
        f"refused request: {endpoint.base_url} refuses access: Blocked."
    ]


def test_a_judge_whom_others_have_read_is_held_to_neither_his_first_reply_nor_a_pilot(
    judges: Judges, endpoint: LoopbackServer
) -> None:
    endpoint.fault = lambda body, times: error(403, "Blocked.", "waf") if number_of(body) == 0 else None
    endpoint.reply = lambda body: "4.5" if number_of(body) > 20 else "Hard to say."
    with pytest.raises(EndpointError, match="Blocked"):
        judged(judges.judge(max_concurrency=1, stop_unreadable=True), rows(30))
    with pytest.raises(EndpointError, match="20 of its first 20 replies hold no scores"):
        judged(judges.judge(max_concurrency=1, stop_unreadable=True), rows(30, 1))
    out = judged(judges.judge(max_concurrency=1, stop_unreadable=True, is_proven=True), rows(30))
    assert [row["scores"] for row in out if row["scores"]] == [[4.5]] * 9
    assert sum("Blocked" in (row["failure"] or "") for row in out) == 1


def test_a_key_that_loses_its_rights_ends_the_work(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.fault = lambda body, times: error(403, "Gone.", "forbidden") if number_of(body) >= 10 else None
    with pytest.raises(EndpointError, match=r"the last 32 requests all failed.*Gone"):
        judged(judges.judge(max_concurrency=1), rows(100))
    assert endpoint.asked.total() == 10 + 32


def test_a_refusal_is_a_failure_that_is_paid_for_once(judges: Judges, endpoint: LoopbackServer) -> None:
    message = {"content": None, "refusal": "I would\nrather not."}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    body = {"choices": [{"finish_reason": "stop", "message": message}], "usage": usage}
    endpoint.fault = lambda _, times: web.json_response(body)
    for from_ledger in (False, True):
        (row,) = judged(judges.judge(), rows(1))
        assert (row["failure"], row["scores"]) == ("refused by the model: I would rather not.", None)
        assert (row["prompt_tokens"], row["from_ledger"]) == (7, from_ledger)
    assert endpoint.asked.total() == 1


def test_when_replies_cannot_be_kept_no_more_is_asked(
    judges: Judges, endpoint: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Ledger.record

    def record(self: Ledger, *args: Any) -> None:
        if endpoint.answered.total() > 20:
            raise OSError(28, "No space left on device")
        kept(self, *args)

    monkeypatch.setattr(Ledger, "record", record)
    judge = judges.judge(max_concurrency=4)
    for first in (0, 40):  # blocks that come after the first failure, too
        with pytest.raises(EndpointError, match=r"cannot be kept.*No space left"):
            judged(judge, rows(40, first))
    assert endpoint.asked.total() <= 20 + 4


def test_what_was_answered_before_the_end_is_kept(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.fault = lambda body, times: (
        error(401, "The key has run out.", "invalid_api_key") if number_of(body) >= 30 else None
    )
    with pytest.raises(EndpointError):
        judged(judges.judge(max_concurrency=1), rows(50))
    paid = set(endpoint.answered)
    assert len(paid) == 30
    endpoint.fault = lambda body, times: None
    out = judged(judges.judge(), rows(50))
    assert sum(row["from_ledger"] for row in out) == 30
    assert {endpoint.answered[prompt] for prompt in paid} == {1}


def test_a_block_that_is_given_up_leaves_the_judge_in_order(judges: Judges) -> None:
    judge = judges.judge()
    given_up = judge(rows(200))
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    assert len(judged(judge, rows(5, first=300))) == 5


def test_one_row_can_be_judged_alone(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "4.5\nGood."
    judgment = judges.judge().judge_one(rows(1).to_pylist()[0])
    assert (judgment.scores, judgment.text, judgment.from_ledger) == ((4.5,), "4.5\nGood.", False)


def test_a_reader_by_name_reads_the_replies(judges: Judges, endpoint: LoopbackServer) -> None:
    endpoint.reply = lambda body: "Score: 4.5\nGood."
    (robust,) = judged(judges.judge(reader="robust"), rows(1))
    (original,) = judged(judges.judge(reader="original"), rows(1))
    assert robust["scores"] == [4.5]
    assert original["scores"] is None
    assert original["failure"].startswith("unreadable")
    assert endpoint.asked.total() == 1


def test_a_rubric_of_ones_own_is_asked_and_read(judges: Judges, endpoint: LoopbackServer) -> None:
    rubric = Rubric(
        "style", "", "Rate <{output}> ({category})", ("output", "category"), (0, 10),
        reader="pattern", pattern="Style: ([0-9]+)",
    )  # fmt: skip
    table = pa.table({"id": ["a", "b"], "output": ["x", "y"], "category": ["prose", None]})
    endpoint.reply = lambda body: (
        "Fine.\nStyle: 8" if "<x>" in body["messages"][-1]["content"] else "Style: 11"
    )
    out = {row["id"]: row for row in judged(judges.judge(reader=rubric.reader, rubric=rubric), table)}
    assert (out["a"]["scores"], out["b"]["failure"]) == ([8.0], "unreadable: out of scale")
    assert set(endpoint.asked) == {"Rate <x> (prose)", "Rate <y> ()"}


def test_a_delimited_request_is_paid_for_once(judges: Judges, endpoint: LoopbackServer) -> None:
    rubric = replace(ACCURACY, delimit=True)
    judged(judges.judge(), rows(2))
    judged(judges.judge(rubric=rubric), rows(2))
    assert endpoint.asked.total() == 4, "it is another request than the published one"
    assert all(row["from_ledger"] for row in judged(judges.judge(rubric=rubric), rows(2)))


class TestPilot:
    """The first request, before anything is started."""

    @staticmethod
    def ask(endpoint: LoopbackServer, ledger: Path, num_rows: int = 5, **changed: Any) -> Any:
        from alpagasus_ray.judge.pool import JudgePool  # brings Ray Data, which takes seconds

        settings = JudgeSettings(base_url=endpoint.base_url, model="judge", **changed)
        job = judge_job(Recipe(), settings, ACCURACY, "robust", str(ledger))
        pool = JudgePool(job, Spending())
        pool.ask_first(rows(num_rows).to_pylist())
        return pool.bill

    def test_it_is_paid_for_once(self, endpoint: LoopbackServer, tmp_path: Path) -> None:
        first, second = (self.ask(endpoint, tmp_path / "ledger") for _ in range(2))
        assert (first.asked, second.asked) == (1, 0)
        assert endpoint.asked.total() == 1

    @pytest.mark.parametrize(
        ("status", "code"), [(401, "invalid_api_key"), (404, "model_not_found"), (400, "bad_request")]
    )
    def test_it_tells_the_endpoints_words(
        self, endpoint: LoopbackServer, tmp_path: Path, status: int, code: str
    ) -> None:
        endpoint.fault = lambda body, times: error(status, f"Words on {code}.", code)
        with pytest.raises(UserError, match=f"Words on {code}"):
            self.ask(endpoint, tmp_path / "ledger")
        assert endpoint.asked.total() == (3 if status == 400 else 1), "a bad request may be one row's fault"

    def test_a_row_that_cannot_be_judged_is_not_the_end(
        self, endpoint: LoopbackServer, tmp_path: Path
    ) -> None:
        endpoint.fault = lambda body, times: (
            error(400, "Too long.", "context_length_exceeded") if number_of(body) < 2 else None
        )
        assert self.ask(endpoint, tmp_path / "ledger").cost is None
        assert (endpoint.asked.total(), endpoint.answered.total()) == (3, 1)

    def test_a_judge_that_is_busy_is_there(self, endpoint: LoopbackServer, tmp_path: Path) -> None:
        endpoint.fault = lambda body, times: error(429, "Later.", "rate_limited", {"retry-after": "600"})
        self.ask(endpoint, tmp_path / "ledger")
        assert endpoint.asked.total() == 1, "the work itself waits, and says so"

    def test_a_ledger_that_cannot_be_written_is_said_before_anything_is_paid_for(
        self, endpoint: LoopbackServer, tmp_path: Path
    ) -> None:
        (tmp_path / "ledger").write_text("no folder")
        with pytest.raises(UserError, match="ledger"):
            self.ask(endpoint, tmp_path / "ledger")
        assert endpoint.asked.total() == 0

    def test_it_does_not_wait_for_an_endpoint_that_is_gone(
        self, endpoint: LoopbackServer, tmp_path: Path
    ) -> None:
        endpoint.fault = lambda body, times: error(500, "Oops.", "internal", {"retry-after-ms": "5"})
        with pytest.raises(UserError, match="Oops"):
            self.ask(endpoint, tmp_path / "ledger", max_retries=8)
        assert endpoint.asked.total() <= 3

    def test_what_another_rubric_has_spent_counts(self, endpoint: LoopbackServer, tmp_path: Path) -> None:
        price = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1}
        settings = JudgeSettings(base_url=endpoint.base_url, model="judge", max_cost_usd=5.0)
        recipe = Recipe.model_validate({"prices": {"judge": price}})
        job = judge_job(recipe, settings, ACCURACY, "robust", str(tmp_path / "ledger"))
        from alpagasus_ray.judge.pool import JudgePool

        spending = Spending()
        first, second = JudgePool(job, spending), JudgePool(job, spending)
        first.ask_first(rows(1).to_pylist())
        assert 0 < first.bill.cost_usd == spending.usd
        spending.usd = 5.0
        second.ask_first(rows(2).to_pylist()[1:])
        assert (second.bill.not_asked, endpoint.asked.total()) == (1, 1)
        with pytest.raises(StoppedEarly, match=r"stopped at \$5.0000 of max_cost_usd 5"):
            second.bill.raise_if_stopped("grade", 1, 5.0)

    def test_an_unreadable_first_reply_stops_nothing(self, endpoint: LoopbackServer, tmp_path: Path) -> None:
        endpoint.reply = lambda body: "I would rather not say."
        assert self.ask(endpoint, tmp_path / "ledger").asked == 1


def test_a_block_that_is_done_is_stored_though_nobody_closes_the_judge(
    judges: Judges, endpoint: LoopbackServer, bucket: str, tmp_path: Path
) -> None:
    ledger = bucket.replace("NAME", tmp_path.name)
    job = judge_job(Recipe(), JudgeSettings(base_url=endpoint.base_url), ACCURACY, "robust", ledger)
    judge = Judge(job, max_concurrency=8)
    judged(judge, rows(20))
    assert len(Ledger(job.ledger)) == 20
    judge.close()
