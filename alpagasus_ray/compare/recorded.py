"""Comparisons that others recorded: their answers, and the judgments that belong to a pairing. Pure.

The form is that of gpt4life/alpagasus (evaluation/eval.py) and gauss5930/AlpaGasus2-QLoRA: for each order of
the two models a file FIRST-SECOND-SET.json, a JSON list of the set's prompts with a text under each model's
name, a `review`, and mostly its `score`, [first, second].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alpagasus_ray.compare.pairing import Answers, Pairing
from alpagasus_ray.compare.verdicts import FIRST
from alpagasus_ray.corpus.answers import Answer
from alpagasus_ray.corpus.original_answers import answers_in_rows, models_in_rows, prompts_in_rows, read_rows
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.recorded import Recorded, read_review
from alpagasus_ray.judge.score_format import ScoreFormat

NOT_RECORDED = "not judged: no review of it in the imported files"
_Key = tuple[str, str, str]
"""The question and the answers in slot order, without the blanks around them."""


@dataclass(frozen=True)
class RecordedFile:
    """One file of reviews: one test set in one order."""

    source: str
    testset: str
    models: tuple[str, str]
    """In the order in which the judge saw them."""
    rows: Sequence[Mapping[str, Any]]
    prompts: Sequence[Prompt]
    """What each row asks."""

    def answers_of(self, model: str) -> dict[str, Answer]:
        """Return a model's answers by prompt id."""
        return answers_in_rows(self.rows, self.prompts, model)


@dataclass(frozen=True)
class Matched:
    """The recorded judgments of a pairing, as a judge would have given them."""

    rows: list[dict[str, Any]]
    """One for each of the pairing's rows; those without a review are failures."""
    num_reviews: int
    num_unmatched: int
    """Reviews of none of the pairing's rows."""
    num_reviews_of: Mapping[str, int]
    """Reviews by the order of their answers."""


def recorded_file(text: str, source: str, name: str) -> RecordedFile:
    """Return the reviews in a file's text; `name` is the file's, which tells the order.

    Raises UserError that names the source and the row for a file of another form.
    """
    rows = read_rows(text, source)
    models = models_in_rows(rows)
    stem = name.removesuffix(".json")
    for first in models:
        for second in models:
            testset = stem.removeprefix(f"{first}-{second}-")
            if first != second and testset not in ("", stem):
                return RecordedFile(source, testset, (first, second), rows, prompts_in_rows(rows, source))
    raise UserError(
        f"{source}: its name is not FIRST-SECOND-SET.json with two of the models in it "
        f"({', '.join(models[:10]) or 'none found'}): it has to tell which answer the judge saw first"
    )


def answers_in(files: Iterable[RecordedFile], model: str) -> Answers:
    """Return a model's answers in all files, by test set and prompt id.

    Raises UserError where there are none.
    """
    found: dict[str, dict[str, Answer]] = {}
    models: set[str] = set()
    for file in files:
        models |= set(file.models)
        if model in file.models:
            found.setdefault(file.testset, {}).update(file.answers_of(model))
    if not found:
        raise UserError(
            f"no imported file has answers of {model} (models found: {', '.join(sorted(models))})"
        )
    return found


def match(pairing: Pairing, files: Iterable[RecordedFile], rubric: ScoreFormat, reader: str) -> Matched:
    """Return the pairing's judgments, joined to the reviews by question and answers and never by place."""
    orders = {
        _key(row): row["order"] for row in pairing.rows if row["answer_1"].strip() != row["answer_2"].strip()
    }
    reviews: dict[tuple[str, _Key], list[Recorded]] = {}
    for file in files:
        in_file = list(_reviews(file, rubric, reader))
        seen = Counter(orders[key] for key, _ in in_file if key in orders)
        # Two answers that are the same tell no order, and both files hold a review of them: the rest tells.
        order = seen.most_common(1)[0][0] if seen else FIRST
        for key, recorded in in_file:
            reviews.setdefault((order, key), []).append(recorded)
    num_reviews_of = Counter(order for (order, _), waiting in reviews.items() for _ in waiting)
    num_reviews = num_reviews_of.total()
    rows = []
    for row in pairing.rows:
        # What a set asks twice, with the same answers, has its reviews in its order.
        waiting = reviews.get((row["order"], _key(row)))
        rows.append(_judged(row, waiting.pop(0) if waiting else Recorded(None, NOT_RECORDED, None)))
    return Matched(rows, num_reviews, sum(map(len, reviews.values())), num_reviews_of)


def _reviews(file: RecordedFile, rubric: ScoreFormat, reader: str) -> Iterator[tuple[_Key, Recorded]]:
    first, second = (file.answers_of(model) for model in file.models)
    for row, prompt in zip(file.rows, file.prompts, strict=True):
        if {"review", "score"} & set(row) and prompt.id in first and prompt.id in second:
            texts = {"answer_1": first[prompt.id].text, "answer_2": second[prompt.id].text}
            yield _key({"question": prompt.question, **texts}), read_review(row, rubric, reader)[0]


def _key(row: Mapping[str, Any]) -> _Key:
    return row["question"].strip(), row["answer_1"].strip(), row["answer_2"].strip()


def _judged(row: Mapping[str, Any], recorded: Recorded) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("testset", "prompt_id", "order")},
        "scores": recorded.scores,
        "failure": recorded.failure,
        "text": recorded.text,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "from_ledger": True,
    }
