"""From two models' answers to the rows that the judge sees, and from its scores to verdicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.compare.verdicts import Scores, Verdict, decide
from alpagasus_ray.corpus.answers import Answer
from alpagasus_ray.corpus.testsets import POOLED
from alpagasus_ray.errors import UserError

Answers = Mapping[str, Mapping[str, Answer]]
"""By test set and prompt id."""
FIRST, SWAPPED = "first", "swapped"


@dataclass(frozen=True)
class Pairing:
    """Everything that two sets of answers have in common, and what only one of them has."""

    rows: list[dict[str, Any]]
    """Two rows a prompt: testset, prompt_id, order, question, answer_1, answer_2."""
    unpaired: dict[tuple[str, str], str]
    """Prompts that only one model answered, by (test set, id): which one did not."""
    categories: dict[tuple[str, str], str | None]


def pair(a: Answers, b: Answers) -> Pairing:
    """Return the rows to judge, in both orders, in a fixed order.

    Raises UserError where no test set is in both, or where one id stands for two different prompts.
    """
    testsets = sorted(set(a) & set(b))
    if POOLED in testsets:
        raise UserError(f"a test set cannot be called {POOLED}: the results of all of them together are")
    if not testsets:
        raise UserError(
            f"the two models answered different test sets: {', '.join(sorted(a))} and {', '.join(sorted(b))}"
        )
    pairing = Pairing([], {}, {})
    for testset in testsets:
        for prompt_id in sorted(set(a[testset]) | set(b[testset])):
            _add(pairing, testset, prompt_id, a[testset].get(prompt_id), b[testset].get(prompt_id))
    return pairing


def _add(pairing: Pairing, testset: str, prompt_id: str, a: Answer | None, b: Answer | None) -> None:
    answer = a or b
    assert answer is not None
    pairing.categories[testset, prompt_id] = answer.category
    if a is None or b is None:
        pairing.unpaired[testset, prompt_id] = f"no answer of model {'A' if a is None else 'B'}"
        return
    if a.prompt != b.prompt:
        raise UserError(f"{testset}: the prompt {prompt_id} is not the same for both models")
    for order, one, two in ((FIRST, a, b), (SWAPPED, b, a)):
        pairing.rows.append(
            {
                "testset": testset,
                "prompt_id": prompt_id,
                "order": order,
                "question": a.prompt,
                "answer_1": one.text,
                "answer_2": two.text,
            }
        )


def verdict_rows(
    pairing: Pairing, judged: Iterable[Mapping[str, Any]], rule: str
) -> dict[str, list[tuple[Verdict, dict[str, str | None]]]]:
    """Return, by test set and in a fixed order, the verdicts with the judge's two replies.

    A prompt with an unreadable or a missing judgment gets a verdict that is a failure with its reason.
    """
    judgments = {(row["testset"], row["prompt_id"], row["order"]): row for row in judged}
    verdicts: dict[str, list[tuple[Verdict, dict[str, str | None]]]] = {}
    for (testset, prompt_id), category in pairing.categories.items():
        first = judgments.get((testset, prompt_id, FIRST), {})
        swapped = judgments.get((testset, prompt_id, SWAPPED), {})
        failure = pairing.unpaired.get((testset, prompt_id)) or first.get("failure") or swapped.get("failure")
        verdict = decide(
            prompt_id, _scores(first), _scores(swapped, swap=True), rule, failure=failure, category=category
        )
        texts = {"first_text": first.get("text"), "swapped_text": swapped.get("text")}
        verdicts.setdefault(testset, []).append((verdict, texts))
    return verdicts


def _scores(judgment: Mapping[str, Any], swap: bool = False) -> Scores | None:
    """Return the scores in the order (A, B)."""
    scores = judgment.get("scores")
    if not scores:
        return None
    slot_1, slot_2 = scores
    return (slot_2, slot_1) if swap else (slot_1, slot_2)
