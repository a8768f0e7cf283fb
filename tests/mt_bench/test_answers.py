"""Two turns over the protocol: the second in the conversation with the first, and nothing asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus.mt_bench import Question
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.roads import EndpointRoad
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.mt_bench.answers import ArmAnswers, commit_answer_file, read_answers
from alpagasus_ray.mt_bench.bench import Bench, load_bench
from alpagasus_ray.recipe_files import parse_recipe
from tests.loopback import Body, LoopbackServer, error
from tests.mt_bench.files import QUESTIONS, arm_reply, write_answers, write_questions


class Desk:
    """An arm, questions and an endpoint that remembers what it was sent."""

    def __init__(self, run: RunDirectory, console: Console, endpoint: LoopbackServer, folder: Path) -> None:
        self.run, self.console, self.endpoint, self._folder = run, console, endpoint, folder
        self.sent: list[Body] = []
        self.base_url: str | None = endpoint.base_url
        self.questions: tuple[Question, ...] = QUESTIONS
        self.template, self.serve = "alpaca", {}
        endpoint.reply = self._reply

    def _reply(self, body: Body) -> str:
        self.sent.append(body)
        return arm_reply(body)

    def bench(self, **changed: Any) -> Bench:
        questions = write_questions(self._folder, self.questions)
        recipe = {
            "mt_bench": {"questions": questions, "references": "none", "arms": ["full"], **changed},
            "generate": {"base_url": self.base_url, "max_retries": 0, "max_concurrency": 1},
            "train": {"template": self.template},
            "serve": self.serve,
            "arms": {"full": {"selector": "full"}},
        }
        return load_bench(self.run, parse_recipe(recipe))

    def make(self, **changed: Any) -> Manifest:
        bench = self.bench(**changed)
        road = EndpointRoad(self.endpoint.base_url, None, bench.recipe.generate)
        return ArmAnswers(bench, "full").make(road, self.console)

    def committed(self, **changed: Any) -> bool:
        return ArmAnswers(self.bench(**changed), "full").committed() is not None

    def lines(self, name: str = "answers") -> list[Any]:
        text = self.run.read_text(f"{self.run.mt_bench('full')}/{name}.jsonl")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def desk(run: RunDirectory, console: Console, endpoint: LoopbackServer, tmp_path: Path) -> Iterator[Desk]:
    yield Desk(run, console, endpoint, tmp_path)


def test_both_turns_are_written_in_fastchats_form(desk: Desk) -> None:
    manifest = desk.make()
    assert manifest.counts == {"questions": 8, "answers": 8, "incomplete": 0, "turns": 16}
    assert manifest.failures == {}
    assert [row["question_id"] for row in desk.lines()] == [one.id for one in QUESTIONS]
    first = desk.lines()[0]
    assert set(first) == {"question_id", "answer_id", "model_id", "choices", "tstamp"}
    assert first["model_id"] == "full"
    assert first["choices"] == [{"index": 0, "turns": ["full says 0 in turn 1.", "full says 0 in turn 2."]}]
    assert read_answers(desk.bench(), "full")["81"].turns == tuple(first["choices"][0]["turns"])


def test_a_model_of_single_instructions_is_asked_in_training_s_string_and_its_continuation(
    desk: Desk,
) -> None:
    desk.make()
    prompts = [body["prompt"] for body in desk.sent]
    first = render_prompt("Say <0> {answer}.")
    assert prompts[0] == first
    assert prompts[8] == (
        first + "full says 0 in turn 1.\n\n### Instruction:\nNow <0> again.\n\n### Response:"
    )


def test_a_model_trained_to_chat_sees_its_own_answer_in_the_conversation(desk: Desk) -> None:
    desk.template = "chat"
    desk.make()
    assert not any("prompt" in body for body in desk.sent)
    assert desk.sent[8]["messages"] == [
        {"role": "user", "content": "Say <0> {answer}."},
        {"role": "assistant", "content": "full says 0 in turn 1."},
        {"role": "user", "content": "Now <0> again."},
    ]


def test_each_category_is_answered_at_fastchats_temperature(desk: Desk) -> None:
    desk.make(max_new_tokens=77, seed=5)
    sent = {
        QUESTIONS[int(body["prompt"].partition("<")[2].partition(">")[0])].category: (
            body["temperature"], body["max_tokens"], body.get("seed"), body["top_p"],
        )
        for body in desk.sent
    }  # fmt: skip
    assert sent == {
        "writing": (0.7, 77, 5, 1.0),
        "math": (0.0, 77, None, 1.0),
        "stem": (0.1, 77, 5, 1.0),
        "cooking": (0.7, 77, 5, 1.0),
    }


def test_what_is_committed_is_not_asked_again(desk: Desk) -> None:
    manifest = desk.make()
    assert desk.committed() and desk.make() == manifest
    assert desk.endpoint.asked.total() == 16


def test_answers_stay_until_there_are_others(desk: Desk) -> None:
    desk.make()
    before = desk.lines()
    desk.endpoint.fault = lambda body, before: error(400, "no")
    with pytest.raises(UserError, match="answered no question at all"):
        desk.make(max_new_tokens=8)
    assert desk.lines() == before and desk.committed()


def test_what_shapes_answers_asks_anew_and_how_they_are_judged_does_not(desk: Desk) -> None:
    desk.make()
    assert desk.committed(model="other", mode="pairwise", arms=["full", "b"], num_resamples=500)
    for changed in ({"max_new_tokens": 8}, {"seed": 3}):
        assert not desk.committed(**changed)
    desk.template = "chat"
    assert not desk.committed()
    desk.template, desk.questions = "alpaca", QUESTIONS[:-1]
    assert not desk.committed()


def test_after_an_interruption_in_either_turn_only_what_is_missing_is_asked(desk: Desk) -> None:
    for allowed in (5, 6):  # 5 of the first turn; 3 more of it, and 3 of the second
        passed: list[Body] = []

        def fault(body: Body, times: int, passed: list[Body] = passed, allowed: int = allowed) -> Any:
            passed.append(body)
            gone = len(passed) > allowed
            return error(401, "The key has run out.", "invalid_api_key") if gone else None

        desk.endpoint.fault = fault
        with pytest.raises(UserError, match=r"The key has run out\."):
            desk.make()
    assert desk.endpoint.answered.total() == 11
    desk.endpoint.fault = lambda body, times: None
    assert desk.make().counts["answers"] == 8
    assert set(desk.endpoint.answered.values()) == {1} and desk.endpoint.answered.total() == 16


def test_a_second_turn_without_an_answer_keeps_the_first(desk: Desk) -> None:
    def fault(body: Body, times: int) -> Any:
        if "<3> again" in body["prompt"] or "Say <5>" in body["prompt"]:
            return error(400, "Too long.", "context_length_exceeded")
        return None

    desk.endpoint.fault = fault
    manifest = desk.make()
    assert manifest.counts == {"questions": 8, "answers": 6, "incomplete": 1, "turns": 13}
    assert manifest.failures == {"too long": 2}
    assert {row["question_id"] for row in desk.lines()} == {one.id for one in QUESTIONS} - {84, 86}
    (kept,) = desk.lines("incomplete")
    assert (kept["question_id"], kept["choices"][0]["turns"]) == (84, ["full says 3 in turn 1."])
    answers = read_answers(desk.bench(), "full")
    assert (len(answers), len(answers["84"].turns)) == (7, 1)
    lacking = json.loads(desk.run.read_text("mt-bench/full/unanswered.json"))
    assert [(one["question"], one["turn"]) for one in lacking] == [(84, 2), (86, 1)]
    assert all("Too long." in one["reason"] for one in lacking)


def test_what_was_answered_under_other_serve_settings_is_not_mixed_in(desk: Desk) -> None:
    desk.base_url = None
    desk.run.make("models/full", "train", {}, {}, Made)
    desk.make()
    desk.serve = {"dtype": "float16"}
    assert not desk.committed()
    desk.make()
    assert desk.endpoint.asked.total() == 32


def test_what_failed_for_a_passing_reason_is_asked_again(desk: Desk) -> None:
    desk.endpoint.fault = lambda body, times: (
        error(500, "Oops.", "internal") if "<3> again" in body["prompt"] and not times else None
    )
    assert desk.make().failures == {"server error": 1}
    assert not desk.committed()
    assert desk.make().counts["answers"] == 8
    assert desk.endpoint.answered.total() == 16


def test_a_model_that_answers_nothing_is_told(desk: Desk) -> None:
    desk.endpoint.fault = lambda body, times: error(400, "Too long.", "context_length_exceeded")
    with pytest.raises(UserError, match="full answered no question at all"):
        desk.make()


def test_an_arm_without_a_model_is_told_before_anything_is_asked(desk: Desk) -> None:
    desk.base_url = None
    with pytest.raises(UserError, match="train --arm full"):
        desk.make()
    desk.run.make("models/full", "train", {"template": "chat"}, {}, Made)
    desk.make()
    assert "messages" in desk.sent[0], "the trained model's own template"
    desk.serve = {"dtype": "bfloat16"}
    assert not desk.committed()


def test_the_first_turns_are_what_is_compared_with_training(desk: Desk) -> None:
    """check_token_parity looks at these."""
    answers = ArmAnswers(desk.bench(), "full")
    (testset,) = answers.testsets
    assert [prompt.instruction for prompt in testset.prompts] == [one.turns[0] for one in QUESTIONS]
    assert [key for _, key in answers.requests()] == [one.key for one in QUESTIONS]
    assert not answers.is_chat


def test_answers_of_a_file_are_taken_over_under_the_name_that_they_are_given(
    desk: Desk, tmp_path: Path
) -> None:
    texts = {one.id: ("a", "b") for one in QUESTIONS[:-1]}
    file = write_answers(tmp_path / "vicuna.jsonl", "vicuna-13b", texts)
    bench = desk.bench(answer_files={"vicuna": file})
    manifest = commit_answer_file(bench, "vicuna", desk.console)
    assert (manifest.counts["answers"], manifest.failures) == (7, {"no answer in the file": 1})
    assert {one.model_id for one in read_answers(bench, "vicuna").values()} == {"vicuna"}
    assert commit_answer_file(bench, "vicuna", desk.console) == manifest


def test_a_file_never_takes_the_place_of_answers_that_were_asked_for(desk: Desk, tmp_path: Path) -> None:
    desk.make()
    texts = {one.id: ("a", "b") for one in QUESTIONS}
    file = write_answers(tmp_path / "other.jsonl", "x", texts)
    with pytest.raises(UserError, match="full has answers of its own"):
        commit_answer_file(desk.bench(answer_files={"full": file}), "full", desk.console)
