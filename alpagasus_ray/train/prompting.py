"""How an instruction and its answer are written for a model, and in which tokens. Pure.

What is trained on has to be what serving sends: vLLM's /v1/completions tokenises a prompt with the special
tokens that the tokenizer adds (BOS), /v1/chat/completions the rendered chat template without any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import jinja2

from alpagasus_ray.corpus.row_forms import RejectedRowError
from alpagasus_ray.corpus.template import WITHOUT_INPUT, chat_message, render_prompt
from alpagasus_ray.corpus.triplets import Triplet
from alpagasus_ray.errors import UserError

PROBE = "Name a fruit."
PINNED_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""In place of today's in chat templates that write it: the date that Llama 3's has where it knows none. With
today's, a training that goes on tomorrow would see other prompts, and so would each day's serving."""
_TODAY = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>.*?)(?P=quote)\s*\)""")


class Prompting(Protocol):
    """One way to write instructions, for one tokenizer."""

    end_id: int
    """The token that ends an answer."""

    def texts(self, triplet: Triplet) -> tuple[str, str]:
        """Return prompt and target, without the end; raises RejectedRowError for a row that has none."""
        ...

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a prompt, or of a prompt and its target, as training takes them."""
        ...

    def served_ids(self, triplet: Triplet) -> list[int]:
        """Return the tokens that serving makes of what generation sends for this row."""
        ...

    def chat_template(self) -> str | None:
        """Return the chat template that renders training's prompts; None where none can."""
        ...


class AlpacaPrompting:
    """The Alpaca template, sent as a raw prompt."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id

    def texts(self, triplet: Triplet) -> tuple[str, str]:
        """Return the filled template and the output."""
        return render_prompt(triplet.instruction, triplet.input), triplet.output

    def ids(self, text: str) -> list[int]:
        """Return the tokens with BOS where the tokenizer adds it, without the EOS that some append."""
        ids = self._all_ids(text)
        return ids[:-1] if ids and ids[-1] == self.end_id else ids

    def served_ids(self, triplet: Triplet) -> list[int]:
        """Return what /v1/completions makes of the raw prompt."""
        return self._all_ids(render_prompt(triplet.instruction, triplet.input))

    def chat_template(self) -> str | None:
        """Return a template that writes one user message as training wrote an instruction without input.

        Chat templates have to write BOS themselves where the tokenizer adds it to a raw prompt; some
        tokenizers want a blank behind it. None where the tokens come out otherwise with each of these.
        """
        messages = [{"role": "user", "content": PROBE}]
        wanted = self.ids(render_prompt(PROBE))
        for lead in ("", "bos_token + ", "bos_token + ' ' + "):
            template = _alpaca_chat_template(lead)
            if lead and self._tokenizer.bos_token is None:
                continue
            if _chat_ids(self._tokenizer, template, messages) == wanted:
                return template
        return None

    def _all_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids


class ChatPrompting:
    """The tokenizer's own chat template, sent as a user's message."""

    def __init__(self, tokenizer: Any) -> None:
        """Raises UserError where there is no chat template, or none that training can learn from."""
        if not tokenizer.chat_template:
            raise UserError(
                "train.template is chat, and the base model's tokenizer has no chat template: say alpaca, "
                "or take a model that was tuned to chat"
            )
        self._tokenizer = tokenizer
        self._template = pinned(tokenizer.get_chat_template())
        try:
            prompt, whole = self._rendered(PROBE, PROBE)
        except jinja2.TemplateError as error:
            raise UserError(
                f"the base model's chat template takes no user's message with an answer ({error}): set "
                "train.template to alpaca"
            ) from error
        if not whole.startswith(prompt):
            raise UserError(
                "the base model's chat template writes one prompt for an answer and another before it, "
                "so it cannot be trained on: set train.template to alpaca"
            )
        after = whole.rpartition(PROBE)[2]
        special = _special_ids(tokenizer)
        ends = [one for one in tokenizer(after, add_special_tokens=False)["input_ids"] if one in special]
        self.end_id: int = ends[0] if ends else tokenizer.eos_token_id
        self._end = str(tokenizer.convert_ids_to_tokens(self.end_id))

    def texts(self, triplet: Triplet) -> tuple[str, str]:
        """Return the rendered message, and what the template writes of the answer up to its end."""
        try:
            prompt, whole = self._rendered(chat_message(triplet.instruction, triplet.input), triplet.output)
        except jinja2.TemplateError as error:
            raise RejectedRowError("the chat template refuses it") from error
        if not whole.startswith(prompt):
            raise RejectedRowError("the chat template writes another prompt before this answer")
        target = whole.removeprefix(prompt)
        before, end, _ = target.rpartition(self._end)
        return prompt, before if end else target

    def ids(self, text: str) -> list[int]:
        """Return the tokens of the text alone: the template has written BOS where the model wants it."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def served_ids(self, triplet: Triplet) -> list[int]:
        """Return what /v1/chat/completions makes of the message."""
        content = chat_message(triplet.instruction, triplet.input)
        return _chat_ids(self._tokenizer, self._template, [{"role": "user", "content": content}])

    def chat_template(self) -> str:
        """Return the tokenizer's own template, its date pinned."""
        return self._template

    def _rendered(self, message: str, answer: str) -> tuple[str, str]:
        user, assistant = {"role": "user", "content": message}, {"role": "assistant", "content": answer}
        how = {"chat_template": self._template, "tokenize": False}
        prompt: str = self._tokenizer.apply_chat_template([user], add_generation_prompt=True, **how)
        whole: str = self._tokenizer.apply_chat_template([user, assistant], **how)
        return prompt, whole


PROMPTINGS: dict[str, Callable[[Any], Prompting]] = {"alpaca": AlpacaPrompting, "chat": ChatPrompting}
"""By the name that `train.template` takes."""


def pinned(template: str) -> str:
    r"""Return a chat template with PINNED_DATE where it writes today's.

    >>> pinned('{{ strftime_now("%d %b %Y") }}')
    '{{ "26 Jul 2024" }}'
    """
    return _TODAY.sub(lambda found: json.dumps(PINNED_DATE.strftime(found["format"])), template)


def _alpaca_chat_template(lead: str) -> str:
    before, after = (json.dumps(part) for part in WITHOUT_INPUT.split("{instruction}"))
    return (
        "{%- if messages[0]['role'] != 'user' or messages | length > 2 or (messages | length == 2 and "
        "(messages[1]['role'] != 'assistant' or add_generation_prompt)) -%}"
        "{{- raise_exception('this model was trained on single instructions: send one user message') -}}"
        "{%- endif -%}"
        f"{{{{- {lead}{before} + messages[0]['content'] + {after} -}}}}"
        "{%- if messages | length == 2 -%}{{- messages[1]['content'] + eos_token -}}{%- endif -%}"
    )


def _chat_ids(tokenizer: Any, template: str, messages: list[dict[str, str]]) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        messages, chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids


def _special_ids(tokenizer: Any) -> set[int]:
    """Return the tokens that are no text: those with a role, and others marked so (Llama 3's <|eot_id|>)."""
    marked = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | set(tokenizer.all_special_ids)
