"""The pilot's rows: a steady draw, spoilt outputs that are spoilt, and what judges of the toy world show."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus.ingest import KeptRow, ingest
from alpagasus_ray.corpus.toyworld import generate_rows
from alpagasus_ray.grade.guard import MIN_ROWS
from alpagasus_ray.grade.pilot import EVASION, Pilot, PilotSample, pilot_rows, planted
from alpagasus_ray.judge.answer_key import AnswerKeyChat
from alpagasus_ray.judge.rubrics import RUBRICS
from alpagasus_ray.judge.scores import READERS
from alpagasus_ray.llm.chat import Request, Sampling
from alpagasus_ray.recipe import GuardSettings
from alpagasus_ray.schemas import TRIPLETS

COLUMNS = ["id", "instruction", "input", "output"]
WORDS = st.sampled_from(["a", "b c", "I'm not sure.", "one two three four five six", " x\n\ny  z w "])


def row(number: int, output: str | None = None) -> dict[str, str]:
    said = f"It is {number}, and nothing else but {number}." if output is None else output
    return {"id": f"id-{number}", "instruction": f"Name {number}.", "input": "", "output": said}


def table(rows: list[dict[str, str]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def ids(rows: pa.Table) -> list[str]:
    found: list[str] = rows["id"].to_pylist()
    return found


def test_the_pilot_is_a_draw_that_no_other_row_moves() -> None:
    rows = [row(number) for number in range(1000)]
    drawn = ids(pilot_rows(table(rows), GuardSettings()))
    assert len(drawn) == len(set(drawn)) == 200
    assert 60 < sum(int(id.removeprefix("id-")) < 500 for id in drawn) < 140, "the file's head is no sample"
    assert ids(pilot_rows(table(rows[::-1]), GuardSettings())) == drawn
    left = [one for one in rows if one["id"] != drawn[0]]
    assert len(set(drawn) & set(ids(pilot_rows(table(left), GuardSettings())))) == 199
    assert ids(pilot_rows(table(rows), GuardSettings(seed=1))) != drawn


@pytest.mark.parametrize(("there", "drawn"), [(29, 0), (30, 30), (199, 199), (201, 200)])
def test_small_data_is_its_own_pilot_and_a_handful_of_rows_is_none(there: int, drawn: int) -> None:
    assert pilot_rows(table([row(number) for number in range(there)]), GuardSettings()).num_rows == drawn


def test_every_kind_of_fault_is_planted_in_turn() -> None:
    rows = [row(number) for number in range(60)]
    spoilt = planted(rows, 30)
    by_id = {one["id"]: one for one in rows}
    assert [one.fault for one in spoilt] == ["swapped", "evasive", "truncated"] * 10
    for one in spoilt:
        own, output = by_id[one.sound_id]["output"], one.row["output"]
        if one.fault == "swapped":
            assert output != own and output in {other["output"] for other in rows}
        elif one.fault == "evasive":
            assert output == EVASION
        else:
            assert own.startswith(output) and 0 < len(output.split()) == len(own.split()) // 3


@given(st.lists(WORDS, max_size=25), st.integers(0, 30), st.integers(0, 3), st.randoms())
def test_a_planted_row_is_its_twin_with_another_output(
    outputs: list[str], count: int, seed: int, r: random.Random
) -> None:
    rows = [row(number, output) for number, output in enumerate(outputs)]
    by_id = {one["id"]: one for one in rows}
    spoilt = planted(rows, count, seed)
    assert len(spoilt) == min(count, len(rows))
    assert len({one.sound_id for one in spoilt}) == len({one.row["id"] for one in spoilt}) == len(spoilt)
    for one in spoilt:
        twin = by_id[one.sound_id]
        assert one.row["output"] != twin["output"] and one.row["output"].strip()
        assert one.row["id"] not in by_id
        assert {**one.row, "id": twin["id"], "output": twin["output"]} == twin
    assert planted(r.sample(rows, len(rows)), count, seed) == spoilt


def test_an_output_is_not_swapped_with_one_to_the_same_question() -> None:
    rows = [{**row(number, f"Answer {number}"), "instruction": "The same."} for number in range(40)]
    assert {one.fault for one in planted(rows, 40)} == {"evasive"}


def test_an_output_that_is_evasive_already_is_broken_off() -> None:
    assert [one.row["output"] for one in planted([row(0, EVASION)], 5)] == ["I'm"]


def test_without_the_guard_nothing_is_judged_beforehand() -> None:
    rows = table([row(number) for number in range(50)])
    assert Pilot(rows, GuardSettings(action="off")).rows.num_rows == 0
    assert Pilot(rows, GuardSettings(planted_rows=0)).rows.num_rows == 50
    assert Pilot(rows, GuardSettings(planted_rows=10)).rows.num_rows == 60
    assert Pilot(rows.slice(0, 20), GuardSettings()).rows.num_rows == 0


def test_a_rubric_that_shows_no_output_has_nothing_planted() -> None:
    rows = table([row(number) for number in range(50)]).drop_columns(["output"])
    assert Pilot(rows, GuardSettings()).rows.num_rows == 50


def judged(id: str, score: float | None, from_ledger: bool = False, text: str | None = "4") -> dict[str, Any]:
    scores = None if score is None else [score]
    failure = None if scores else "timeout: no reply in time" if text is None else "unreadable: no score"
    return {"id": id, "scores": scores, "failure": failure, "from_ledger": from_ledger, "text": text}


def test_planted_rows_are_compared_with_their_twins_and_counted_apart() -> None:
    pilot = Pilot(table([row(number) for number in range(50)]), GuardSettings(planted_rows=20))
    real, spoilt = ids(pilot.rows)[:50], ids(pilot.rows)[50:]
    rows = [judged(id, 4.0 + place % 2 / 2) for place, id in enumerate(real)]
    rows += [judged(id, 3.0) for id in spoilt]
    findings = pilot.findings(rows[::-1])
    assert (findings["num_rows"], findings["num_planted"], findings["planted_agreement"]) == (50, 20, 1.0)
    assert findings["complaint"] is None
    assert {row["id"] for row in rows if pilot.is_planted(row)} == set(spoilt)


def test_rows_that_failed_are_no_scores() -> None:
    pilot = Pilot(table([row(number) for number in range(50)]), GuardSettings(planted_rows=20))
    real, spoilt = ids(pilot.rows)[:50], ids(pilot.rows)[50:]
    rows = [judged(id, None, text=None) for id in real[:5]]
    rows += [judged(id, None, text="no number") for id in real[5:7]]
    rows += [judged(id, 4.0, from_ledger=True) for id in real[7:10]] + [judged(id, 4.5) for id in real[10:]]
    rows += [judged(id, 3.0) for id in spoilt]
    findings = pilot.findings(rows)
    assert findings["num_rows"] == 43
    assert findings["num_planted"] <= 20


@pytest.mark.parametrize("rubric", ["accuracy", "helpfulness"])
@pytest.mark.parametrize(("num_rows", "seed"), [(5000, 0), (300, 0), (300, 1)])
def test_the_toy_worlds_judge_is_not_complained_of(rubric: str, num_rows: int, seed: int) -> None:
    """It knows every answer; yet of its rows 82 % are spoilt already, where a further fault costs little."""
    kept = [row.record for row in ingest(generate_rows(num_rows, seed=seed)) if isinstance(row, KeptRow)]
    rows = pa.Table.from_pylist(kept, schema=TRIPLETS).select(COLUMNS)
    pilot = Pilot(rows, GuardSettings())
    findings = pilot.findings(asyncio.run(answer_key(pilot.rows.to_pylist(), rubric)))
    assert findings["complaint"] is None
    assert findings["num_planted"] == 40
    assert findings["planted_agreement"] > 0.72


async def answer_key(rows: list[dict[str, Any]], rubric: str) -> list[dict[str, Any]]:
    chat, found = AnswerKeyChat(), []
    for one in rows:
        reply = await chat.complete(Request(RUBRICS[rubric].render(one), "answer-key", Sampling(256)))
        scores = READERS["robust"](reply.text, RUBRICS[rubric])
        found.append({"id": one["id"], "scores": scores, "failure": None})
    return found


def test_a_judge_whose_words_hold_no_score_is_found_out() -> None:
    pilot = Pilot(table([row(number) for number in range(100)]), GuardSettings())
    rows = [judged(id, None, text="Fine.") for id in ids(pilot.rows)]
    findings = pilot.findings(rows)
    assert (findings["num_rows"], findings["num_unreadable"]) == (0, len(rows))
    assert "hold no score that can be read" in findings["complaint"]
    lost = [judged(id, None, text=None) for id in ids(pilot.rows)]
    assert pilot.findings(lost)["complaint"] is None, "what was never answered is no fault of the rubric's"


@given(st.integers(0, 400), st.integers(0, 3))
def test_rows_that_pass_by_give_the_same_pilot(count: int, seed: int) -> None:
    settings = GuardSettings(pilot_rows=50, planted_rows=10, seed=seed)
    sample = PilotSample(settings)
    rows = [row(number) for number in range(count)]
    for one in rows:
        sample.add(one)
    if count >= MIN_ROWS:
        assert sample.rows() == pilot_rows(table(rows), settings).to_pylist()
    else:
        assert sample.rows() == []
