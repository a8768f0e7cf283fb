"""A base model small enough for a laptop: a Llama of a few million parameters with random weights.

It is saved as an ordinary Hugging Face folder, and everything downstream treats it as any other base
model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOS, PAD, UNK = "</s>", "<pad>", "<unk>"

_PART = re.compile(r"\n*[^\n:]+(?::\n?)?")
_SHARED_BY = 0.2
"""A line that more than this share of the texts hold belongs to their template."""


def build_tiny_model(
    folder: str | Path,
    texts: Iterable[str],
    *,
    vocabulary_size: int = 2048,
    hidden_size: int = 160,
    num_layers: int = 2,
    num_heads: int = 5,
    max_position_embeddings: int = 1024,
    seed: int = 0,
) -> None:
    """Write a Llama with random weights, and a tokenizer trained on the texts, to a folder.

    The folder holds config, generation config, safetensors weights and tokenizer, as Hugging Face's
    Auto classes and vLLM expect them. The same texts and settings give the same weights. With few
    texts the vocabulary comes out smaller than asked, and the model's embedding with it. Give it
    whole prompts with their outputs, so that a prompt template costs few tokens.

    Raises ValueError when the hidden size does not divide into the heads.
    """
    if hidden_size % num_heads:
        raise ValueError(f"hidden_size {hidden_size} does not divide into {num_heads} heads")
    tokenizer = _train_tokenizer(list(texts), vocabulary_size, max_position_embeddings)
    model = _random_llama(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            # Llama's own ratio of 8/3, rounded up to a multiple of 128.
            intermediate_size=-(-hidden_size * 8 // (3 * 128)) * 128,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=num_heads,
            max_position_embeddings=max_position_embeddings,
            tie_word_embeddings=False,
            # The usual 0.02 is meant for wide models; a narrow one learns several times slower from it.
            initializer_range=hidden_size**-0.5,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        seed,
    )
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _train_tokenizer(texts: Sequence[str], vocabulary_size: int, max_length: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer: no text is foreign to it."""
    shared = _shared_lines(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(shared),
        special_tokens=[EOS, PAD, UNK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    unshared = (part for text in texts for part in _PART.findall(text) if part not in shared)
    tokenizer.train_from_iterator(unshared, trainer)
    tokenizer.add_tokens([AddedToken(line, normalized=False) for line in shared])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        padding_side="right",
        model_max_length=max_length,
        # Cleaning up would move spaces about in decoded answers.
        clean_up_tokenization_spaces=False,
    )


def _shared_lines(texts: Sequence[str]) -> list[str]:
    """Return the lines and headers that many texts share: those of a prompt template.

    One token for each makes a templated prompt three times shorter, and training as much faster.
    """
    counts = Counter(line for text in texts for line in set(_PART.findall(text)))
    return sorted(line for line, count in counts.items() if count > _SHARED_BY * len(texts))


def _random_llama(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """Return a model whose weights depend on the seed alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(torch.float32)
