"""Token counts: exact where a tokenizer is here, near enough elsewhere, and a bound that holds everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.llm.token_counts import (
    ESTIMATE,
    TOKENS_PER_MESSAGE,
    TOKENS_PER_REQUEST,
    estimate_tokens,
    token_counter,
    upper_bound_tokens,
)

JARGON = (
    "You are a helpful, pattern-following assistant that translates corporate jargon into plain English.",
    "New synergies will help drive top-line growth.",
    "Things working well together will increase revenue.",
    "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
    "Let's talk later when we're less busy about how to do better.",
    "This late pivot means we don't have time to boil the ocean for the client deliverable.",
)
"""The messages for which openai-cookbook (How_to_count_tokens_with_tiktoken) prints the API's own count."""
JARGON_TOKENS = 129 - 2 * (2 + 1) - 2 * (3 + 1)
"""gpt-4-0613's prompt tokens, less those of the four names (and 1 for each name's field): we send none."""


def request(*contents: str) -> Request:
    return Request(tuple(Message("user", content) for content in contents), "some-model", Sampling(256))


def byte_level_tokenizer() -> Tokenizer:
    """A byte-level BPE, as OpenAI, Llama 3 and Qwen have one, that has seen little."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(JARGON, trainer)
    return tokenizer


TOKENIZER = byte_level_tokenizer()


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> str:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


def test_the_estimate_is_near_what_the_api_counted() -> None:
    counter = token_counter("a-model-of-ones-own")
    assert counter.method == ESTIMATE
    assert counter.count(request(*JARGON)) == pytest.approx(JARGON_TOKENS, rel=0.1)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("tiktoken is great!", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 9),
    ],
)
def test_the_estimate_is_near_for_published_counts(text: str, tokens: int) -> None:
    """cl100k_base's own, from openai-cookbook (How_to_count_tokens_with_tiktoken)."""
    assert estimate_tokens(text) == pytest.approx(tokens, abs=2)


def test_nothing_has_no_tokens() -> None:
    assert estimate_tokens("") == 0


@given(st.text(), st.text())
def test_a_longer_text_has_no_fewer_tokens(first: str, second: str) -> None:
    alone = [estimate_tokens(first), estimate_tokens(second)]
    tokens = estimate_tokens(f"{first}\t{second}")
    assert tokens >= max(alone) - 1e-9
    assert tokens == pytest.approx(sum(alone))


@given(st.lists(st.text(), min_size=1, max_size=3))
@example(["\ufdfa" * 20])  # one character that NFKC makes eighteen of
@example(["🍐" * 50, "a\n\n\n  b"])
def test_no_count_exceeds_the_upper_bound(contents: list[str]) -> None:
    tokens = sum(len(TOKENIZER.encode(content).ids) for content in contents)
    assert tokens <= upper_bound_tokens(request(*contents)) - TOKENS_PER_MESSAGE * len(contents)


def test_the_upper_bound_leaves_room_for_the_chat_format() -> None:
    assert upper_bound_tokens(request("", "")) >= 2 * TOKENS_PER_MESSAGE + TOKENS_PER_REQUEST
    assert upper_bound_tokens(request(*JARGON)) > JARGON_TOKENS


def test_a_tokenizer_that_is_here_counts_exactly(tokenizer_folder: str) -> None:
    counter = token_counter("gpt-4o", tokenizer_folder)
    text = "Synergies will help.\n\n<s>Grüße, 你好"
    assert counter.count_text(text) == len(TOKENIZER.encode(text).ids)
    assert tokenizer_folder in counter.method


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        token_counter("gpt-4o", str(tmp_path))


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{oops")
    with pytest.raises(UserError, match="cannot be read") as told:
        token_counter("gpt-4o", str(tmp_path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [None, b"half a vocabulary"])
def test_a_vocabulary_that_is_not_here_whole_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """Tiktoken by itself would remove the broken file and ask the network for another."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    file = tmp_path / hashlib.sha1(url.encode()).hexdigest()
    if content is not None:
        file.write_bytes(content)
    assert token_counter("gpt-4o").method == ESTIMATE
    assert (file.read_bytes() if file.exists() else None) == content


def test_openais_own_count_is_used_where_its_vocabulary_is_here() -> None:
    counter = token_counter("gpt-4-0613")
    if counter.method == ESTIMATE:
        pytest.skip("tiktoken has no cl100k_base in its cache here")
    assert counter.count_text("tiktoken is great!") == 6
    assert counter.count(request(*JARGON)) == JARGON_TOKENS
