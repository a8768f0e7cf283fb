"""The real command against a loopback judge, on a real Ray: what is asked, and what comes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.judge.pilot_gate import PILOT_ROWS
from alpagasus_ray.judge.rubrics import PAIRWISE_RUBRICS
from tests.comparing_runs import compare, judge_by, models_asked, outcomes, results, write_answers
from tests.loopback import LoopbackServer

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("on_cluster")]
LONG, SHORT = "A long and thorough answer, with reasons.", "Short."
FIRST, SECOND, DRAW = "9 5\nThe first.", "5 9\nThe second.", "7 7\nBoth."


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as endpoint:
        yield endpoint


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two models of 30 answers to each of two test sets: the first one's are the longer."""
    long, short = ([f"{text} ({place})" for place in range(30)] for text in (LONG, SHORT))
    a = write_answers(tmp_path, "thorough", {"koala": long, "vicuna": long})
    b = write_answers(tmp_path, "terse", {"koala": short, "vicuna": short})
    return str(a), str(b)


def flags(pair: tuple[str, str], out: Path, server: LoopbackServer) -> list[str]:
    places = ["--a", pair[0], "--b", pair[1], "--out", str(out), "--set", f"ledger={out.parent}/ledger"]
    return [*places, "--model", "judge", "--base-url", server.base_url]


def the_longer(question: str, first: str, second: str) -> str:
    return FIRST if len(first) > len(second) else SECOND


def the_second(question: str, first: str, second: str) -> str:
    return SECOND


def recorded_files(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "recorded").glob("*-*-*.json"))


def test_recorded_reviews_give_the_published_counts_on_both_roads(
    tmp_path: Path, server: LoopbackServer, shared_data: Path
) -> None:
    """gauss5930/AlpaGasus2-QLoRA: Koala 94/71/15, Vicuna 40/38/2."""
    files = recorded_files(shared_data)
    reviews = {}
    for path in files:
        slots = path.name.split("-")[:2]
        for row in json.loads(path.read_text()):
            texts = {
                "question": row.get("prompt") or row["text"],
                "answer_1": row[slots[0]],
                "answer_2": row[slots[1]],
            }
            reviews[PAIRWISE_RUBRICS["pairwise"].render(texts)[-1].content] = row["review"]
    server.reply = lambda body: reviews[body["messages"][-1]["content"]]
    answers = ",".join(f"{path.stem.rpartition('-')[2]}={path}" for path in files[:2])
    models = ("--a", "alpagasus2", "--b", "alpaca2", "--model", "gpt-3.5-turbo-16k")
    asked = [
        *models,
        "--answers",
        answers,
        "--base-url",
        server.base_url,
        "--set",
        f"ledger={tmp_path}/ledger",
    ]
    done = compare(*asked, "--out", str(tmp_path / "asked"))
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "asked")
    assert (outcomes(found["koala"]), outcomes(found["vicuna"])) == ((94, 71, 15), (40, 38, 2))
    assert found["pooled"]["failures"] == 0
    # What the published counts hide: most of the ties are the judge's leaning on the second slot.
    assert found["pooled"]["flips"] > 90
    assert found["pooled"]["second_slot_wins"] > 1.5 * found["pooled"]["first_slot_wins"]
    assert set(server.answered.values()) == {1}
    assert len(server.answered) == 2 * (180 + 80)

    imported = compare(
        *models,
        "--import-reviews",
        ",".join(map(str, files)),
        "--out",
        str(tmp_path / "imported"),
        OPENAI_API_KEY="",
    )
    assert imported.returncode == 0, imported.stderr
    assert results(tmp_path / "imported") == found
    again = compare(*asked, "--out", str(tmp_path / "again"))
    assert results(tmp_path / "again") == found
    assert server.answered.total() == 2 * (180 + 80), again.stderr


def test_what_recorded_files_are_called_tells_the_order(tmp_path: Path, shared_data: Path) -> None:
    """With their names exchanged every win is a loss; put right, the old verdicts do not stand."""
    one, two = recorded_files(shared_data)[0], recorded_files(shared_data)[2]
    assert (one.name, two.name) == ("alpaca2-alpagasus2-koala.json", "alpagasus2-alpaca2-koala.json")
    found = []
    for first, second in ((two, one), (one, two)):
        (tmp_path / one.name).write_bytes(first.read_bytes())
        (tmp_path / two.name).write_bytes(second.read_bytes())
        files = f"{tmp_path / one.name},{tmp_path / two.name}"
        places = ["--a", "alpagasus2", "--b", "alpaca2", "--out", str(tmp_path / "out")]
        done = compare(*places, "--model", "gpt-3.5-turbo-16k", "--import-reviews", files)
        assert done.returncode == 0, done.stderr
        found.append(outcomes(results(tmp_path / "out")["koala"]))
    assert found == [(15, 71, 94), (94, 71, 15)]


def test_recorded_reviews_want_their_judge_and_both_orders(tmp_path: Path, shared_data: Path) -> None:
    one, two = (str(recorded_files(shared_data)[number]) for number in (0, 2))
    places = ["--a", "alpagasus2", "--b", "alpaca2", "--out", str(tmp_path / "out")]
    nameless = compare(*places, "--import-reviews", f"{one},{two}")
    assert (nameless.returncode, nameless.stderr.count("\n")) == (2, 1)
    assert "--model" in nameless.stderr
    half = compare(*places, "--model", "gpt-3.5-turbo-16k", "--import-reviews", one)
    assert half.returncode == 2 and "give the other order's files" in half.stderr
    assert not (tmp_path / "out").exists()


def test_only_flips_go_to_the_stronger_judge(
    tmp_path: Path, server: LoopbackServer, pair: tuple[str, str]
) -> None:
    """The weak judge prefers the second slot to all odd questions: these alone are asked once more."""

    def weak(question: str, first: str, second: str) -> str:
        return the_longer(question, first, second) if int(question.split()[1]) % 2 == 0 else SECOND

    replies = {"judge": judge_by(weak), "strong": judge_by(the_longer)}
    asked = models_asked(server, lambda body: replies[body["model"]](body))
    done = compare(*flags(pair, tmp_path / "out", server), "--escalate", "strong")
    assert done.returncode == 0, done.stderr
    pooled = results(tmp_path / "out")["pooled"]
    assert outcomes(pooled) == (60, 0, 0)
    # How steady the weak judge is must not look better because a stronger one stepped in.
    assert (pooled["flips"], pooled["second_slot_wins"], pooled["first_slot_wins"]) == (30, 90, 30)
    assert pooled["escalation"] == {"judge_model": "strong", "prompts": 30, "still_flipped": 0}
    # One row is asked before anything is started, and comes out of the ledger after that.
    assert asked == {"judge": 120, "strong": 60 + 1} or asked == {"judge": 120, "strong": 60}
    assert "30 flips went to strong, 0 flipped there too" in done.stderr
    rows = pq.read_table(tmp_path / "out" / "koala.parquet").to_pylist()
    by_judge = {
        judge: {int(row["prompt_id"]) % 2 for row in rows if row["judge_model"] == judge} for judge in replies
    }
    assert by_judge == {"judge": {0}, "strong": {1}}


@pytest.fixture
def clear_pair(tmp_path: Path) -> tuple[str, str]:
    """Two models of 300 answers, of which the first one's are the longer."""
    texts = [f"{LONG} ({place})" for place in range(300)]
    a = write_answers(tmp_path, "thorough", {"koala": texts})
    b = write_answers(tmp_path, "terse", {"koala": [SHORT + text[-6:] for text in texts]})
    return str(a), str(b)


def the_longer_of_every_other(question: str, first: str, second: str) -> str:
    place = int(question.split()[1])
    return the_longer(question, first, second) if place % 2 else DRAW


def test_it_stops_when_the_difference_is_clear_however_fast_the_judge_is(
    tmp_path: Path, server: LoopbackServer, clear_pair: tuple[str, str]
) -> None:
    asked = models_asked(server, judge_by(the_longer_of_every_other))
    command = [*flags(clear_pair, tmp_path / "out", server), "--early-stop", "0.01"]
    done = compare(*command)
    assert done.returncode == 0, done.stderr
    pooled = results(tmp_path / "out")["pooled"]
    wins, ties, losses = outcomes(pooled)
    # 2^n B(10 + n, 10) / B(10, 10) reaches 100 at n = 19.
    assert (wins, losses) == (19, 0)
    assert 64 < 2 * (wins + ties) <= 160, "the second portion is wanted, and is enough"
    left_out = 300 - wins - ties
    assert pooled["early_stop"]["prompts_left_out"] == left_out
    assert pooled["early_stop"]["p_value"] <= pooled["early_stop"]["level"] == 0.01
    # The row asked about before anything is started need not be one of those that were drawn.
    assert asked["judge"] in (160, 161)
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["counts"]["asked"] == asked["judge"], "what was judged and is not used was paid for, too"
    assert f"clear before the other {left_out} prompts were judged" in done.stderr
    again = compare(*(str(tmp_path / "again") if word == str(tmp_path / "out") else word for word in command))
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "again") == results(tmp_path / "out")
    assert asked["judge"] in (160, 161)


def test_dollars_that_run_out_end_a_comparison_that_may_stop_early(
    tmp_path: Path, server: LoopbackServer, clear_pair: tuple[str, str]
) -> None:
    asked = models_asked(server, judge_by(the_longer_of_every_other))
    price = "prices={judge: {input_usd_per_million_tokens: 1000, output_usd_per_million_tokens: 1000}}"
    command = [*flags(clear_pair, tmp_path / "out", server), "--early-stop", "0.01", "--set", price]
    few = compare(*command, "--set", "compare.max_cost_usd=8")
    assert 1 < asked["judge"] < 160
    # The row asked about before anything is started need not be one of the first portion's.
    assert any(
        f"{answered} of 600 are answered" in few.stderr for answered in (asked["judge"], asked["judge"] - 1)
    )
    assert not (tmp_path / "out" / "results.json").exists()
    enough = compare(*command)
    assert enough.returncode == 0, enough.stderr
    assert outcomes(results(tmp_path / "out")["pooled"])[0] == 19
    assert asked["judge"] in (160, 161), "no judgment is paid for twice"


def test_a_judge_who_cannot_be_read_is_stopped_with_three_examples(
    tmp_path: Path, server: LoopbackServer, pair: tuple[str, str]
) -> None:
    server.reply = judge_by(lambda question, first, second: f"I would rather not say which. {question}")
    server.latency_s = 0.1
    done = compare(*flags(pair, tmp_path / "out", server), "--max-concurrency", "4")
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.count('"I would rather not say which. Question ') == 3
    assert "hold no scores that can be read" in line
    # Each prompt in both orders, and each reply asked for once more, would be 240.
    assert server.answered.total() <= 2 * PILOT_ROWS + 4
    assert not (tmp_path / "out" / "_manifest.json").exists()


def test_what_cannot_be_read_is_asked_once_more_and_never_a_tie(
    tmp_path: Path, server: LoopbackServer, pair: tuple[str, str]
) -> None:
    """The judge forgets its form on every third question, and keeps to that on one of two when told."""

    def reply(body: dict[str, object]) -> str:
        messages = body["messages"]
        assert isinstance(messages, list)
        asked = messages[1]["content"]
        number = int(asked.split("Question ")[1].split()[0])
        forgets = number % 3 == 0 and (len(messages) == 2 or number % 2 == 0)
        return "They are both good." if forgets else judge_by(the_longer)(body)

    asked = models_asked(server, reply)
    done = compare(*flags(pair, tmp_path / "out", server))
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "out")
    # Of 30 questions 0, 3, .. 27 are forgotten; 0, 6, .. 24 stay so.
    assert (outcomes(found["koala"]), found["koala"]["failures"]) == ((25, 0, 0), 5)
    assert found["koala"]["failure_reasons"] == {"unreadable: no score": 5}
    assert asked["judge"] == 2 * 2 * (30 + 10)
    assert "10 not judged" in done.stderr
    server.reply = judge_by(the_longer)
    once = compare(*flags(pair, tmp_path / "once", server), "--set", "compare.ask_again=false")
    assert once.returncode == 0, once.stderr
    assert results(tmp_path / "once")["koala"]["failures"] == 10
    assert asked["judge"] == 2 * 2 * (30 + 10), "the first replies are in the ledger"


def test_arms_are_ranked_from_all_their_pairs(tmp_path: Path, server: LoopbackServer) -> None:
    """Three arms, the longer the better; the ranking stands on the page as well."""
    testset = tmp_path / "plain.jsonl"
    testset.write_text(
        "".join(json.dumps({"id": str(i), "instruction": f"Question {i}?"}) + "\n" for i in range(12))
    )
    run, arms = tmp_path / "run", {"low": 1, "middle": 2, "high": 3}
    rows = [
        {
            "question_id": str(i),
            "instruction": f"Question {i}?",
            **{arm: SHORT * n for arm, n in arms.items()},
        }
        for i in range(12)
    ]
    (tmp_path / "plain_seed_0.json").write_text(json.dumps(rows))
    from alpagasus_ray.cli import main

    for arm in arms:
        words = ["answers", "import", str(tmp_path / "plain_seed_0.json"), "--model", arm, "--arm", arm]
        assert main([*words, "--run-dir", str(run), "--testsets", str(testset)]) == 0
    server.reply = judge_by(the_longer)
    recipe = tmp_path / "arms.yaml"
    recipe.write_text("arms: {low: {selector: full}, middle: {selector: full}, high: {selector: full}}")
    words = ["--run-dir", str(run), "--recipe", str(recipe), "--all-pairs", "--model", "judge"]
    done = compare(*words, "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    ranking = json.loads((run / RunDirectory.ranking("judge") / "ranking.json").read_text())
    assert [(arm["arm"], arm["wins"], arm["losses"]) for arm in ranking["arms"]] == [
        ("high", 24, 0),
        ("middle", 12, 12),
        ("low", 0, 24),
    ]
    assert main(["report", "--run-dir", str(run)]) == 0
    page = (run / "report" / "index.html").read_text()
    assert page.index("Ranking") < page.index("How steady the judge is")
