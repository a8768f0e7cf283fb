"""How rows with human labels are laid out: the published forms, and columns that the user names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alpagasus_ray.corpus.row_forms import ROLES, RejectedRowError
from alpagasus_ray.corpus.testsets import Prompt
from alpagasus_ray.recipe import LabelColumns


class Texts(NamedTuple):
    """What people were shown."""

    question: str
    answer_a: str
    answer_b: str
    turns: int
    """Exchanges: 1 but for conversations."""


@dataclass(frozen=True)
class TextForm:
    """One row a question, each text in a column of its own."""

    name: str
    columns: LabelColumns
    labels: str
    """A pattern for the columns of the labels, for where `columns` names none."""
    labels_shown: str = ""
    """The pattern in words; empty: as it stands."""
    zero_is_tie: bool = False
    """Whether numbers have PandaLM's meaning: this form is known, and a lone 0 is no riddle."""

    def label_columns(self, row: Mapping[str, Any]) -> list[str]:
        """Return the columns of a row that hold labels, one for each annotator."""
        named = self.columns.labels
        return [name for name in row if (name in named if named else re.fullmatch(self.labels, str(name)))]

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has the columns that this form needs."""
        columns = self.columns
        needed = (columns.question, columns.answer_a, columns.answer_b)
        return all(name in row for name in needed) and bool(self.label_columns(row))

    def describe(self) -> str:
        """Return the columns that this form needs, in words."""
        columns = self.columns
        labels = columns.labels or (self.labels_shown or self.labels,)
        needed = (columns.question, columns.answer_a, columns.answer_b, " or ".join(labels))
        return f"{', '.join(needed)} ({self.name})"

    def texts(self, row: Mapping[str, Any]) -> Texts:
        """Return what people were shown; raises RejectedRowError for a text that is not there or empty."""
        columns = self.columns
        instruction = _text(row, columns.question)
        added = row.get(columns.input) if columns.input else None
        question = Prompt("", instruction, added if isinstance(added, str) else "", None).question
        return Texts(question, _text(row, columns.answer_a), _text(row, columns.answer_b), 1)


@dataclass(frozen=True)
class VoteForm:
    """One row a vote on two conversations, as FastChat writes them for MT-Bench and for the arena.

    Source: lm-sys/FastChat, llm_judge/compute_agreement.py, and the data sets lmsys/mt_bench_human_judgments
    and lmsys/chatbot_arena_conversations: `conversation_a` and `_b` are lists of {role, content}, of which
    `turn` exchanges were shown. The votes of models, in the same form, name their judge by a list.
    """

    name: str = "mt-bench or arena"
    zero_is_tie: bool = False

    def label_columns(self, row: Mapping[str, Any]) -> list[str]:
        """Return the column of the vote."""
        return [name for name in row if name == "winner"]

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has the columns that this form needs."""
        return all(name in row for name in ("conversation_a", "conversation_b", "winner"))

    def describe(self) -> str:
        """Return the columns that this form needs, in words."""
        return f"conversation_a, conversation_b, winner ({self.name})"

    def texts(self, row: Mapping[str, Any]) -> Texts:
        """Return what people were shown; raises RejectedRowError for what is no vote of a person.

        Of several exchanges, the questions make one text and each side's answers another, with headings:
        the pairwise rubric has one place for each.
        """
        judge = row.get("judge")
        if judge is not None and not isinstance(judge, str):
            raise RejectedRowError("the vote is a model's")
        sides = [_exchanges(row, column) for column in ("conversation_a", "conversation_b")]
        turns = row.get("turn")
        if isinstance(turns, int) and turns >= 1:
            sides = [side[:turns] for side in sides]
        questions = [[question for question, _ in side] for side in sides]
        if questions[0] != questions[1]:
            raise RejectedRowError("the two conversations have different questions")
        answers = [_in_turns([answer for _, answer in side]) for side in sides]
        return Texts(_in_turns(questions[0]), answers[0], answers[1], len(questions[0]))


Form = TextForm | VoteForm
_OWN_LABELS = r"winner|(label|annotator).*"
_OWN_LABELS_SHOWN = "winner, label... or annotator..."
PLAIN = TextForm("plain", LabelColumns(), _OWN_LABELS, _OWN_LABELS_SHOWN)
FORMS: dict[str, Form] = {
    # WeOpenML/PandaLM, data/testset-v1.json (arXiv 2306.05087): three annotators, 0 tie, 1, 2.
    "pandalm": TextForm(
        "pandalm",
        LabelColumns(question="instruction", input="input", answer_a="response1", answer_b="response2"),
        r"annotator\d+",
        "annotator1",
        zero_is_tie=True,
    ),
    "votes": VoteForm(),
    # princeton-nlp/LLMBar, Dataset/*/dataset.json (arXiv 2310.07641): one label, 1 or 2.
    "llmbar": TextForm(
        "llmbar", LabelColumns(question="input", answer_a="output_1", answer_b="output_2"), "label"
    ),
    "plain": PLAIN,
}
"""The forms by name, in the order in which they are tried."""


def possible_forms(columns: LabelColumns) -> Sequence[Form]:
    """Return the forms that rows can have: where columns are named, one with these."""
    if columns == LabelColumns():
        return list(FORMS.values())
    return [TextForm("your columns", columns, _OWN_LABELS, _OWN_LABELS_SHOWN)]


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RejectedRowError(f"{column} is empty")
    if not isinstance(value, str):
        raise RejectedRowError(f"{column} is not a string")
    return value


def _exchanges(row: Mapping[str, Any], column: str) -> list[tuple[str, str]]:
    """Return the questions of a conversation with the answers to them."""
    conversation = row.get(column)
    if not isinstance(conversation, list) or not conversation:
        raise RejectedRowError(f"{column} is no list of turns")
    roles = [ROLES.get(str(turn.get("role"))) if isinstance(turn, Mapping) else None for turn in conversation]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise RejectedRowError(f"{column} is not a user and an assistant in turn")
    texts = [_text(turn, "content") for turn in conversation]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _in_turns(texts: list[str]) -> str:
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"### Turn {turn}:\n{text}" for turn, text in enumerate(texts, start=1))
