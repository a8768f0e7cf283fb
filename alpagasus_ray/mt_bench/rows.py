"""From answers to the rows that a judge sees: which of FastChat's prompts, and what goes into it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alpagasus_ray.compare.verdicts import in_both_orders
from alpagasus_ray.corpus.mt_bench import Conversation, Conversations, Question
from alpagasus_ray.judge.mt_bench_prompts import MT_BENCH_RUBRICS, PAIRWISE, SINGLE, prompt_name
from alpagasus_ray.judge.rubric_sets import CHOICE

TURNS = (1, 2)
Place = tuple[str, int]
"""A question's key and the turn."""


def single_rows(
    questions: Sequence[Question], references: Conversations, answers: Conversations
) -> list[dict[str, Any]]:
    """Return one row for each answered turn: question, turn, rubric, and what the rubrics ask for."""
    rows = []
    for question, turn in _places(questions, answers):
        answer = answers[question.key].turns
        own = {"answer": answer[0]}
        if turn == 2:
            own = {"answer_1": answer[0], "answer_2": answer[1]}
        rows.append(_row(SINGLE, question, turn, references, own))
    return rows


def pair_rows(
    questions: Sequence[Question], references: Conversations, a: Conversations, b: Conversations
) -> list[dict[str, Any]]:
    """Return two rows, one in each order, for each turn that both models answered."""
    rows = []
    for question, turn in _places(questions, a, b):
        for order, one, two in in_both_orders(a, b):
            own: dict[str, str] = {}
            for slot, conversations in (("a", one), ("b", two)):
                answer = conversations[question.key].turns
                if turn == 1:
                    own[f"answer_{slot}"] = answer[0]
                else:
                    own |= {f"answer_{slot}_1": answer[0], f"answer_{slot}_2": answer[1]}
            rows.append({**_row(PAIRWISE, question, turn, references, own), "order": order})
    return rows


def _places(questions: Sequence[Question], *answers: Conversations) -> list[tuple[Question, int]]:
    """Return the turns that everybody answered."""
    return [
        (question, turn)
        for question in questions
        for turn in TURNS
        if all(num_turns(one.get(question.key)) >= turn for one in answers)
    ]


def num_turns(answer: Conversation | None) -> int:
    """Return how many turns a model answered."""
    return 0 if answer is None else len(answer.turns)


def _row(
    mode: str, question: Question, turn: int, references: Conversations, own: Mapping[str, str]
) -> dict[str, Any]:
    reference = references.get(question.key)
    asked = {"question": question.turns[0]}
    if turn == 2:
        asked = {"question_1": question.turns[0], "question_2": question.turns[1]}
    known = (
        {} if reference is None else dict(zip(("ref_answer_1", "ref_answer_2"), reference.turns, strict=True))
    )
    texts = {**asked, **known, **own}
    return {
        "question_id": question.key,
        "turn": turn,
        CHOICE: prompt_name(mode, turn, reference is not None),
        # The same columns in every row: a block of rows is a table.
        **{field: texts.get(field, "") for field in MT_BENCH_RUBRICS[mode].fields},
    }
