"""How many tokens a prompt has: by the model's own tokenizer where it is here, else estimated."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Request

TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST = 4, 3
"""What a chat format adds: its marks and the role of each message, and the opening of the reply
(openai-cookbook, How_to_count_tokens_with_tiktoken, for gpt-3.5-turbo-0613, gpt-4 and later)."""
MAX_TOKENS_PER_MESSAGE, MAX_TOKENS_PER_REQUEST = 8, 128
"""The same for any format: ChatML and Llama 3 mark a message with 5 tokens, and some templates put a text
of their own in front (gpt-oss' about 60 tokens, Llama 3.1's about 25)."""
ESTIMATE = "estimate, within 5 % for English"
"""How far estimate_tokens is off in all, against cl100k_base and o200k_base: Alpaca +1 and +2 %, Dolly -5 and
-3 %, judges' reviews, test set prompts and Python code under 1 %, Alpaca rows in the accuracy rubric +3 %.
Other languages are worse: German -29 and -15 %, Chinese -6 and +29 %, Russian +52 and +170 %. Claude's
tokenizer of 2023 counts 4 to 8 % more, those since Opus 4.7 another 30 % (platform.claude.com, token
counting)."""

_ASCII: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (re.compile(r"[A-Za-z]+"), 0.86, 0.031),  # words
    (re.compile(r"[0-9]{1,3}"), 1.43, 0.0),  # a number's blank is a token of its own
    (re.compile(r"[!-/:-@\[-`{-~]+"), 1.07, 0.0),  # punctuation
    (re.compile(r"\n+"), 0.87, 0.0),
    (re.compile(r"  +"), 0.4, 0.0),
)
_CJK = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff00-\uffef"
_BEYOND_ASCII: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (re.compile(f"[{_CJK}]"), 1.1, 0.0),
    (re.compile(f"[^\\x00-\\x7f{_CJK}]"), 0.8, 0.0),
)
"""Pieces of a text: tokens for each, and for each of its characters. The first table is a least-squares fit
to cl100k_base and o200k_base on 9,229 rows of Alpaca, Dolly, the four test sets and Python code; the second
lies between the two on articles of the Universal Declaration of Human Rights in eleven languages."""

_TIKTOKEN_FILES = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""SHA-256 of OpenAI's vocabularies (tiktoken_ext/openai_public.py)."""
_TIKTOKEN_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens, and says how it does so."""

    count_text: Callable[[str], float]
    """Tokens of a text by itself."""
    method: str
    """In words for the user: a tokenizer's name, or an estimate and its error."""

    def count(self, request: Request) -> float:
        """Return the tokens of a request's prompt, with what the chat format adds."""
        texts = sum(self.count_text(message.content) for message in request.messages)
        return texts + TOKENS_PER_MESSAGE * len(request.messages) + TOKENS_PER_REQUEST


def token_counter(model: str, folder: str | None = None) -> TokenCounter:
    """Return the best counter for a model that is on this machine; nothing is fetched.

    `folder` is a Hugging Face folder with the model's tokenizer.json. Without one OpenAI's vocabularies
    are used for its models where tiktoken has them in its cache; else the estimate. Raises UserError where
    the folder holds no tokenizer.
    """
    if folder is not None:
        return _of_folder(folder)
    return _of_tiktoken(model) or TokenCounter(estimate_tokens, ESTIMATE)


def estimate_tokens(text: str) -> float:
    """Return about how many tokens a text has; see ESTIMATE for how far off that is.

    >>> round(estimate_tokens("The three primary colors are red, blue, and yellow."))
    13
    """
    tokens = 0.0
    for pattern, per_piece, per_character in _ASCII if text.isascii() else (*_ASCII, *_BEYOND_ASCII):
        pieces = pattern.findall(text)
        tokens += per_piece * len(pieces)
        if per_character:
            tokens += per_character * sum(map(len, pieces))
    return tokens


def upper_bound_tokens(request: Request) -> int:
    """Return a number that the provider's count of a request's prompt tokens cannot exceed.

    A token of a byte-level BPE, and of SentencePiece with byte fallback, holds at least one byte of the
    UTF-8. Some tokenizers (Claude's of 2023) bring a text to NFKC first, which can make it longer.
    """
    num_bytes = sum(_max_bytes(message.content) for message in request.messages)
    return num_bytes + MAX_TOKENS_PER_MESSAGE * len(request.messages) + MAX_TOKENS_PER_REQUEST


def _max_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFKC", text))
    return max(len(form.encode("utf-8", "surrogatepass")) for form in forms)


def tokenizer_of_file(path: Path) -> Any:
    """Return the tokenizer of a tokenizer.json; raises UserError where it cannot be read."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise UserError(f"tokenizer {path} cannot be read: {error}") from error


def _of_folder(folder: str) -> TokenCounter:
    path = Path(folder).expanduser() / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"tokenizer {folder}: a Hugging Face folder with a tokenizer.json is expected")
    tokenizer = tokenizer_of_file(path)
    return TokenCounter(
        lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), f"tokenizer {folder}"
    )


def _of_tiktoken(model: str) -> TokenCounter | None:
    """Return OpenAI's own count for its models, or None without tiktoken or its vocabulary."""
    try:
        import tiktoken

        name = tiktoken.encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    if not _is_in_cache(name):
        return None
    encoding = tiktoken.get_encoding(name)
    return TokenCounter(lambda text: len(encoding.encode_ordinary(text)), f"tiktoken {name}")


def _is_in_cache(encoding: str) -> bool:
    """Return whether tiktoken has a vocabulary whole; otherwise it would fetch it (tiktoken/load.py)."""
    cache = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    folder = Path(tempfile.gettempdir(), "data-gym-cache") if cache is None else Path(cache)
    file = folder / hashlib.sha1(_TIKTOKEN_URL.format(encoding).encode()).hexdigest()
    if cache == "" or not file.is_file():
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() == _TIKTOKEN_FILES.get(encoding)
