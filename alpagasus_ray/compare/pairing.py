"""From two models' answers to the rows that the judge sees, and from its scores to verdicts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.compare.verdicts import FIRST, SWAPPED, Verdict, decide_judged, in_both_orders
from alpagasus_ray.corpus.answers import Answer
from alpagasus_ray.corpus.testsets import POOLED
from alpagasus_ray.corpus.triplets import seeded_draw
from alpagasus_ray.errors import UserError, nearest

Answers = Mapping[str, Mapping[str, Answer]]
"""By test set and prompt id."""
Key = tuple[str, str]
"""Test set and prompt id."""
Texts = dict[str, str | None]
"""The judge's reply in each order: first_text, swapped_text."""


@dataclass(frozen=True)
class Pairing:
    """Everything that two sets of answers have in common, and what only one of them has."""

    rows: list[dict[str, Any]]
    """Two rows a prompt: testset, prompt_id, order, question, answer_1, answer_2."""
    unpaired: dict[Key, str]
    """Prompts that only one model answered: which one did not."""
    categories: dict[Key, str | None]
    """Of all prompts, in their order."""
    lengths: dict[Key, tuple[int, int]]
    """Characters of the answers of (A, B)."""

    def drawn(self, seed: int) -> Pairing:
        """Return the same prompts in an order drawn by the seed and their ids."""
        order = sorted(self.categories, key=lambda key: seeded_draw("\0".join(key), seed))
        return self._with(order)

    def first(self, count: int) -> Pairing:
        """Return the first so many prompts."""
        return self._with(list(self.categories)[:count])

    def flipped(self, judged: Iterable[Mapping[str, Any]], rule: str) -> set[Key]:
        """Return the prompts on which the two orders name different winners."""
        by_prompt: dict[Key, list[Mapping[str, Any]]] = {}
        for row in judged:
            by_prompt.setdefault(key_of(row), []).append(row)
        return {key for key, rows in by_prompt.items() if verdict_of(self, key, rows, rule)[0].flipped}

    def _with(self, keys: Sequence[Key]) -> Pairing:
        by_prompt: dict[Key, list[dict[str, Any]]] = {}
        for row in self.rows:
            by_prompt.setdefault(key_of(row), []).append(row)
        return Pairing(
            [row for key in keys for row in by_prompt.get(key, ())],
            {key: self.unpaired[key] for key in keys if key in self.unpaired},
            {key: self.categories[key] for key in keys},
            {key: self.lengths[key] for key in keys if key in self.lengths},
        )


def key_of(row: Mapping[str, Any]) -> Key:
    """Return which prompt a row is about."""
    return row["testset"], row["prompt_id"]


def pair(
    a: Answers, b: Answers, testsets: Sequence[str] = (), names: tuple[str, str] = ("A", "B")
) -> Pairing:
    """Return the rows to judge, in both orders, in a fixed order; `testsets`: only these.

    Raises UserError where a test set is not in both, and where one id stands for two different prompts.
    """
    pairing = Pairing([], {}, {}, {})
    for testset in _common(a, b, testsets, names):
        for prompt_id in sorted(set(a[testset]) | set(b[testset])):
            _add(pairing, testset, prompt_id, a[testset].get(prompt_id), b[testset].get(prompt_id))
    return pairing


def _common(a: Answers, b: Answers, wanted: Sequence[str], names: tuple[str, str]) -> list[str]:
    there = set(a) | set(b)
    if unknown := [name for name in wanted if name not in there]:
        raise UserError(f"no model has answers to a test set {unknown[0]}.{nearest(unknown[0], there)}")
    testsets = sorted(wanted or there)
    if POOLED in testsets:
        raise UserError(f"a test set cannot be called {POOLED}: the results of all of them together are")
    for testset in testsets:
        for answers, name, other in ((a, *names), (b, *reversed(names))):
            if testset not in answers:
                both = sorted(set(a) & set(b))
                way_out = (
                    f"compare those of both with --testsets {','.join(both)}"
                    if both
                    else "have it answer them"
                )
                raise UserError(f"{name} has no answers to {testset}, which {other} has: {way_out}")
    return testsets


def _add(pairing: Pairing, testset: str, prompt_id: str, a: Answer | None, b: Answer | None) -> None:
    answer = a or b
    assert answer is not None
    named = {one.category for one in (a, b) if one is not None and one.category is not None}
    if len(named) > 1:
        raise UserError(
            f"{testset}: the prompt {prompt_id} has two categories: {' and '.join(sorted(named))}"
        )
    pairing.categories[testset, prompt_id] = next(iter(named), None)
    if a is None or b is None:
        pairing.unpaired[testset, prompt_id] = f"no answer of model {'A' if a is None else 'B'}"
        return
    if a.prompt != b.prompt:
        raise UserError(f"{testset}: the prompt {prompt_id} is not the same for both models")
    pairing.lengths[testset, prompt_id] = len(a.text), len(b.text)
    for order, one, two in in_both_orders(a, b):
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


def verdict_of(
    pairing: Pairing, key: Key, judged: Iterable[Mapping[str, Any]], rule: str
) -> tuple[Verdict, Texts]:
    """Return the verdict on a prompt, from its judged rows, with the judge's replies.

    Where a judgment is unreadable or missing it is a failure with its reason.
    """
    judgments = {row["order"]: row for row in judged}
    verdict = decide_judged(
        key[1],
        judgments,
        rule,
        failure=pairing.unpaired.get(key),
        category=pairing.categories[key],
    )
    first, swapped = (judgments.get(order, {}) for order in (FIRST, SWAPPED))
    return verdict, {"first_text": first.get("text"), "swapped_text": swapped.get("text")}


def verdict_rows(
    pairing: Pairing, judged: Iterable[Mapping[str, Any]], rule: str
) -> dict[str, list[tuple[Verdict, Texts]]]:
    """Return, by test set and in the order of the pairing, the verdicts with the judge's replies."""
    judgments: dict[Key, list[Mapping[str, Any]]] = {}
    for row in judged:
        judgments.setdefault(key_of(row), []).append(row)
    verdicts: dict[str, list[tuple[Verdict, Texts]]] = {}
    for key in pairing.categories:
        verdicts.setdefault(key[0], []).append(verdict_of(pairing, key, judgments.get(key, ()), rule))
    return verdicts
