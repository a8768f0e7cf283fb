"""Where a source row holds its texts: Alpaca's columns, Dolly's, others that are named, or a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

NEEDED_FIELDS = ("instruction", "output")
CONVERSATION_COLUMNS = ("conversations", "messages")
ROLE_KEYS = ("from", "role")
TEXT_KEYS = ("value", "content")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
"""ShareGPT's names of the speakers and OpenAI's."""


class RejectedRowError(ValueError):
    """A source row that is no triplet; the message is the reason, in a few fixed words."""


class Texts(NamedTuple):
    """What a source row says."""

    instruction: str
    input: str
    output: str
    category: str | None


@dataclass(frozen=True)
class RowForm:
    """Which of a source row's columns are the texts that the judge sees and training learns."""

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """The source's column by field (instruction, input, output, category); empty for a conversation."""

    @property
    def is_chat(self) -> bool:
        """Whether the texts are the first exchange of a conversation."""
        return not self.columns

    def with_columns(self, columns: Mapping[str, str]) -> RowForm:
        """Return the same form with other names for some of its columns."""
        return replace(self, columns={**self.columns, **columns})

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row has the columns that this form needs."""
        if self.is_chat:
            return any(column in row for column in CONVERSATION_COLUMNS)
        return all(self.columns[name] in row for name in NEEDED_FIELDS)

    def describe(self) -> str:
        """Return the columns that this form needs, in words.

        >>> FORMS["dolly"].describe()
        'instruction and response (dolly)'
        """
        if self.is_chat:
            return f"{' or '.join(CONVERSATION_COLUMNS)} ({self.name})"
        return f"{' and '.join(self.columns[name] for name in NEEDED_FIELDS)} ({self.name})"

    def texts(self, row: Mapping[str, Any]) -> Texts:
        """Return the texts of a row.

        Raises RejectedRowError with a reason that names the column, or the turn: missing, empty or not
        a string. A missing or null input is an empty one, since half of such files leave it out.
        """
        if self.is_chat:
            return _first_exchange(row)
        category = row.get(self.columns["category"])
        return Texts(
            instruction=_text(row, self.columns["instruction"]),
            input=_text(row, self.columns["input"], may_be_empty=True),
            output=_text(row, self.columns["output"]),
            category=category if isinstance(category, str) and category else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return what from_json reads: an object for a manifest."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any] | None) -> RowForm:
        """Return the form that to_json wrote; None, from before there were others, is Alpaca's."""
        return ALPACA if value is None else RowForm(**value)


ALPACA = RowForm("alpaca", {name: name for name in ("instruction", "input", "output", "category")})
FORMS = {
    "alpaca": ALPACA,
    "dolly": RowForm("dolly", {**ALPACA.columns, "input": "context", "output": "response"}),
    "chat": RowForm("chat"),
}
"""The forms by name, in the order in which they are tried."""


def _text(row: Mapping[str, Any], column: str, may_be_empty: bool = False) -> str:
    value = row.get(column)
    if value is None and may_be_empty:
        return ""
    if value is None:
        raise RejectedRowError(f"{column} is missing")
    if not isinstance(value, str):
        raise RejectedRowError(f"{column} is not a string")
    if not value.strip() and not may_be_empty:
        raise RejectedRowError(f"{column} is empty")
    return value


def _first_exchange(row: Mapping[str, Any]) -> Texts:
    """Return the first user turn that an assistant turn follows, and that turn."""
    column = next((name for name in CONVERSATION_COLUMNS if row.get(name) is not None), None)
    if column is None:
        raise RejectedRowError(f"{' or '.join(CONVERSATION_COLUMNS)} is missing")
    turns = row[column]
    if not isinstance(turns, list):
        raise RejectedRowError(f"{column} is not a list")
    roles = [_role(turn) for turn in turns]
    for place in range(len(turns) - 1):
        if roles[place : place + 2] == ["user", "assistant"]:
            category = row.get("category")
            return Texts(
                instruction=_turn_text(turns[place], "user"),
                input="",
                output=_turn_text(turns[place + 1], "assistant"),
                category=category if isinstance(category, str) and category else None,
            )
    raise RejectedRowError("no user turn that an assistant turn follows")


def _role(turn: object) -> str | None:
    if not isinstance(turn, Mapping):
        return None
    named = [turn[key] for key in ROLE_KEYS if isinstance(turn.get(key), str)]
    return ROLES.get(named[0].lower()) if named else None


def _turn_text(turn: Mapping[str, Any], role: str) -> str:
    text = next((turn[key] for key in TEXT_KEYS if turn.get(key) is not None), None)
    if not isinstance(text, str):
        raise RejectedRowError(f"the {role} turn is not a string")
    if not text.strip():
        raise RejectedRowError(f"the {role} turn is empty")
    return text
