"""The answers of one model to both turns: an arm's, asked for, or those of a file. No Ray here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, Progress
from alpagasus_ray.corpus.mt_bench import (
    TEMPERATURES,
    Conversation,
    Question,
    answers_to_jsonl,
    content_hash,
    parse_answers,
)
from alpagasus_ray.corpus.template import render_follow_up, render_prompt
from alpagasus_ray.corpus.testsets import Prompt, TestSet
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.generating import trained_template
from alpagasus_ray.generate.roads import Road
from alpagasus_ray.generate.unanswered import describe_unanswered, show_reason, write_unanswered
from alpagasus_ray.llm.asking import Asked, failure_kind, num_passing
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.manifests import Made, Manifest, settings_hash
from alpagasus_ray.mt_bench.bench import Bench
from alpagasus_ray.text_files import read_text

STAGE = "mt-bench answers"
NAME = "mt-bench"
ANSWERS, INCOMPLETE = "answers.jsonl", "incomplete.jsonl"
"""FastChat's tools want both turns of every answer that they read: one of the first turn stands apart."""


class ArmAnswers:
    """The answers of one arm: what they are made from, and the making of them."""

    def __init__(self, bench: Bench, arm: str) -> None:
        """Raises UserError where the arm has no model and no endpoint is given."""
        self.arm, self._bench, self._run, recipe = arm, bench, bench.run, bench.recipe
        self._inputs: dict[str, Manifest] = {}
        self._asked: dict[str, Any] = {"base_url": recipe.generate.base_url}
        if recipe.generate.base_url is None:
            self._inputs[self._run.model(arm)] = self._run.require(self._run.model(arm), f"train --arm {arm}")
            self._asked = {"serve": recipe.serve.shapes_result()}
        self.is_chat = trained_template(self._run, recipe, arm) == "chat"
        self._hashed = {
            **self._asked,
            "template": "chat" if self.is_chat else "alpaca",
            "questions": content_hash(bench.questions),
            "temperatures": TEMPERATURES,
            **bench.settings.model_dump(include={"max_new_tokens", "seed"}),
        }

    @property
    def testsets(self) -> list[TestSet]:
        """The first turns, as a test set."""
        questions = self._bench.questions
        return [TestSet(NAME, tuple(Prompt(one.key, one.turns[0], "", one.category) for one in questions))]

    def requests(self) -> dict[tuple[str, str], Request]:
        """Return what is asked first, by test set and question."""
        return {(NAME, one.key): self._first(one) for one in self._bench.questions}

    def committed(self) -> Manifest | None:
        """Return the manifest where the answers are there already."""
        return self._run.committed(self._run.mt_bench(self.arm), STAGE, self._hashed, self._inputs)

    def make(self, road: Road, console: Console) -> Manifest:
        """Commit RUN/mt-bench/<arm>/ and return its manifest.

        A question is first asked in its first turn; where that is answered, in its second, within the
        conversation that holds the model's own answer. A turn that is asked and gets no answer is a failure,
        counted; it stands in unanswered.json with its reason. Raises UserError when nothing at all can be
        answered.
        """
        turns: list[dict[str, Asked]] = []
        manifest, _ = self._run.make(
            self._run.mt_bench(self.arm),
            STAGE,
            self._hashed,
            self._inputs,
            lambda: _write(self._run, self.arm, self._bench.questions, *turns),
            # Whatever may go wrong goes wrong here, while the answers of before are still there.
            check=lambda: turns.extend(self._ask(road, console)),
        )
        folder = self._run.mt_bench(self.arm)
        failed = describe_unanswered(self._run, folder, manifest.failures) if manifest.failures else ""
        failed = f"; without an answer: {failed}" if failed else ""
        console.say(f"mt-bench: {self.arm} answered {manifest.counts['turns']:,} turns{failed}")
        if lacking := unanswered(self._bench.questions, *turns) if turns else []:
            place = f"mt-bench: {self.arm}: question {lacking[0]['question']}, turn {lacking[0]['turn']}"
            show_reason(console, place, lacking[0]["reason"])
        return manifest

    def _ask(self, road: Road, console: Console) -> tuple[dict[str, Asked], dict[str, Asked]]:
        """Return what became of each question's first turn, and of the second where the first is answered."""
        model = self._inputs.get(self._run.model(self.arm))
        # A request says nothing about how the model is served: other settings, other replies.
        shaped = settings_hash(self._asked | ({"model": model.content} if model else {}))
        ledger = self._run.child_uri(self._run.replies(f"{self.arm}--{NAME}", shaped))
        questions = self._bench.questions
        with console.progress(f"mt-bench {self.arm}", 2 * len(questions), "turns") as progress:
            first = _ask(road, {one.key: self._first(one) for one in questions}, ledger, progress)
            if not any(one.reply for one in first.values()):
                reasons = Counter(one.failure for one in first.values()).most_common(1)
                raise UserError(f"{self.arm} answered no question at all ({reasons[0][0]})")
            follow_up = {
                one.key: self._second(one, reply.text.strip())
                for one in questions
                if (reply := first[one.key].reply) is not None
            }
            return first, _ask(road, follow_up, ledger, progress)

    def _first(self, question: Question) -> Request:
        """The very string of training, or a user's message for a model trained by its chat template."""
        text = question.turns[0] if self.is_chat else render_prompt(question.turns[0])
        return self._request(question, (Message("user", text),))

    def _second(self, question: Question, answer: str) -> Request:
        first = self._first(question).messages[0]
        if not self.is_chat:
            prompt = render_follow_up(first.content, answer, question.turns[1])
            return self._request(question, (Message("user", prompt),))
        second = Message("assistant", answer), Message("user", question.turns[1])
        return self._request(question, (first, *second))

    def _request(self, question: Question, messages: tuple[Message, ...]) -> Request:
        settings, temperature = self._bench.settings, question.temperature
        seed = settings.seed if temperature > 0 else None
        sampling = Sampling(settings.max_new_tokens, temperature, 1.0, (), seed)
        return Request(messages, self.arm, sampling, raw_prompt=not self.is_chat)


def commit_answer_file(bench: Bench, model: str, console: Console) -> Manifest:
    """Commit RUN/mt-bench/<model>/ from the answer file that the recipe names; return its manifest.

    Raises UserError that names the file and the line, and where answers that were asked for are in the place.
    """
    run, path = bench.run, bench.settings.answer_files[model]
    answers = _of_questions(bench, parse_answers(read_text(path), path, bench.questions), model)
    there = run.manifest(run.mt_bench(model))
    if there is not None and "answer_file" not in there.details:
        raise UserError(f"{model} has answers of its own in {run.uri}: name those of {path} otherwise")

    def write() -> Made:
        run.write_text(f"{run.mt_bench(model)}/{ANSWERS}", answers_to_jsonl(answers.values()))
        missing = len(bench.questions) - len(answers)
        return Made(
            counts=_counts(len(bench.questions), len(answers), 0),
            failures={"no answer in the file": missing} if missing else {},
            details={"answer_file": path.rpartition("/")[2], "passing_failures": 0},
        )

    settings = {"answer_file": content_hash(bench.questions, answers)}
    manifest, _ = run.make(run.mt_bench(model), STAGE, settings, {}, write)
    console.say(f"mt-bench: {model}: {len(answers):,} of {len(bench.questions):,} answers from {path}")
    return manifest


def read_answers(bench: Bench, model: str) -> dict[str, Conversation]:
    """Return a model's committed answers by question, those of one turn included."""
    answers: dict[str, Conversation] = {}
    for num_turns, file in ((2, ANSWERS), (1, INCOMPLETE)):
        name = f"{bench.run.mt_bench(model)}/{file}"
        if bench.run.exists(name):
            text = bench.run.read_text(name)
            answers |= parse_answers(text, bench.run.shown(name), bench.questions, num_turns)
    return answers


def _of_questions(bench: Bench, answers: Mapping[str, Conversation], model: str) -> dict[str, Conversation]:
    """Return the answers in the questions' order, under the name that the recipe gives the model."""
    asked = [question.key for question in bench.questions if question.key in answers]
    return {key: replace(answers[key], model_id=model) for key in asked}


def _ask(road: Road, requests: Mapping[str, Request], replies: str, progress: Progress) -> dict[str, Asked]:
    answers = road(list(requests.values()), Ledger(replies), progress) if requests else []
    return dict(zip(requests, answers, strict=True))


def _write(
    run: RunDirectory,
    arm: str,
    questions: Sequence[Question],
    first: Mapping[str, Asked],
    second: Mapping[str, Asked],
) -> Made:
    failures: Counter[str] = Counter()
    finish_reasons: Counter[str] = Counter()
    tokens = Counter({"prompt_tokens": 0, "completion_tokens": 0})
    by_length: dict[int, list[Conversation]] = {1: [], 2: []}
    now_s = time.time()
    for question in questions:
        turns: list[str] = []
        for asked in (first[question.key], second.get(question.key)):
            if asked is None:
                continue
            if asked.reply is None:
                failures[failure_kind(asked.failure or "")] += 1
                continue
            turns.append(asked.reply.text.strip())
            finish_reasons[asked.reply.finish_reason] += 1
            for name in tokens:
                tokens[name] += getattr(asked.reply, name)
        if turns:
            by_length[len(turns)].append(Conversation(question.id, arm, tuple(turns), now_s))
    for num_turns, file in ((2, ANSWERS), (1, INCOMPLETE)):
        if by_length[num_turns] or file == ANSWERS:
            run.write_text(f"{run.mt_bench(arm)}/{file}", answers_to_jsonl(by_length[num_turns]))
    write_unanswered(run, run.mt_bench(arm), unanswered(questions, first, second))
    answers = {one.key: one for some in by_length.values() for one in some}
    return Made(
        counts=_counts(len(questions), len(by_length[2]), len(by_length[1])),
        failures=failures,
        details={
            "finish_reasons": dict(finish_reasons),
            "passing_failures": num_passing(failures),
            **tokens,
        },
        # Not of the files: they hold the time.
        content=content_hash(questions, answers),
    )


def unanswered(
    questions: Sequence[Question], first: Mapping[str, Asked], second: Mapping[str, Asked]
) -> list[dict[str, Any]]:
    """Return the turns that were asked in vain, in the questions' order: `question`, `turn` and `reason`."""
    return [
        {"question": question.id, "turn": turn, "reason": one.failure or ""}
        for question in questions
        for turn, asked in ((1, first), (2, second))
        if (one := asked.get(question.key)) is not None and one.reply is None
    ]


def _counts(num_questions: int, num_complete: int, num_incomplete: int) -> dict[str, int]:
    return {
        "questions": num_questions,
        "answers": num_complete,
        "incomplete": num_incomplete,
        "turns": 2 * num_complete + num_incomplete,
    }
