"""An arm's answers to a test set: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.text_files import read_text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered to one prompt."""

    prompt_id: str
    model_id: str
    prompt: str
    """The question as the judge is shown it."""
    category: str | None
    text: str
    finish_reason: str
    """stop, length when the answer was cut, or unknown where an imported file does not say."""
    prompt_tokens: int | None = None
    """As the model counted them; None where nobody says."""
    completion_tokens: int | None = None


def answers_to_jsonl(answers: Iterable[Answer]) -> str:
    """Return the lines of `<testset>.jsonl`.

    Their columns are id, prompt, category, answer, finish_reason, model, prompt_tokens and completion_tokens.
    """
    lines = [
        json.dumps(
            {
                "id": answer.prompt_id,
                "prompt": answer.prompt,
                "category": answer.category,
                "answer": answer.text,
                "finish_reason": answer.finish_reason,
                "model": answer.model_id,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
            },
            ensure_ascii=False,
        )
        for answer in answers
    ]
    return "".join(f"{line}\n" for line in lines)


def answers_from_jsonl(text: str, source: str) -> dict[str, Answer]:
    """Return the answers by prompt id; raises UserError that names the source and the line."""
    answers: dict[str, Answer] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            answer = _answer(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{source}, line {number}: an object with id, prompt and answer is expected ({error})"
            ) from error
        if answer.prompt_id in answers:
            raise UserError(f"{source}, line {number}: the id {answer.prompt_id} stands there twice")
        answers[answer.prompt_id] = answer
    return answers


def _answer(row: dict[str, Any]) -> Answer:
    """Return the answer in a row; raises ValueError or KeyError for a field of another type."""
    if not isinstance(row["id"], str | int):
        raise ValueError("id is no text")
    texts = {
        "prompt": row["prompt"],
        "answer": row["answer"],
        "finish_reason": row.get("finish_reason") or "stop",
        "model": row.get("model") or "",
    }
    if row.get("category") is not None:
        texts["category"] = row["category"]
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{name} is no text")
        text.encode()  # half a surrogate pair cannot be written anywhere
    return Answer(
        prompt_id=str(row["id"]),
        model_id=texts["model"],
        prompt=texts["prompt"],
        category=texts.get("category"),
        text=texts["answer"],
        finish_reason=texts["finish_reason"],
        prompt_tokens=_count(row, "prompt_tokens"),
        completion_tokens=_count(row, "completion_tokens"),
    )


def _count(row: dict[str, Any], name: str) -> int | None:
    count = row.get(name)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise ValueError(f"{name} is no whole number")
    return count


def read_committed_answers(run: RunDirectory, arm: str) -> dict[str, dict[str, Answer]]:
    """Return an arm's committed answers, by test set and prompt id."""
    folder = run.answers(arm)
    files = [name for name in run.list_files(folder) if name.endswith(".jsonl")]
    return {
        name.removesuffix(".jsonl"): answers_from_jsonl(
            run.read_text(f"{folder}/{name}"), run.shown(f"{folder}/{name}")
        )
        for name in files
    }


def read_answer_folder(folder: str | Path) -> dict[str, dict[str, Answer]]:
    """Return the answers of every `<testset>.jsonl` in a folder, by test set and prompt id."""
    files = sorted(Path(folder).glob("*.jsonl"))
    if not files:
        raise UserError(f"{folder}: no answers there (files named <testset>.jsonl are expected)")
    return {file.stem: answers_from_jsonl(read_text(file), str(file)) for file in files}
