"""A Llama with random weights and a tokenizer of given rows, to be trained or asked by other benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.train.model_shape import ModelShape, read_model_shape

SIZES: dict[str, dict[str, int]] = {
    # So small that what is around the model counts: 1.8 M parameters.
    "2m": {"hidden": 128, "inner": 352, "layers": 4, "heads": 4, "kv_heads": 4, "vocabulary": 4096},
    # A vocabulary as small as the layers: the head is two fifths of the work.
    "7m": {"hidden": 256, "inner": 704, "layers": 4, "heads": 4, "kv_heads": 4, "vocabulary": 8192},
    # Llama 2's vocabulary: with so narrow layers the head is most of the work.
    "20m": {"hidden": 256, "inner": 704, "layers": 4, "heads": 4, "kv_heads": 4, "vocabulary": 32000},
    # TinyLlama's shape (arXiv 2401.02385): 1.1 B parameters.
    "1b": {"hidden": 2048, "inner": 5632, "layers": 22, "heads": 32, "kv_heads": 4, "vocabulary": 32000},
}


def build_model(folder: Path, rows: Sequence[Mapping[str, Any]], size: str, max_length: int) -> ModelShape:
    """Write a Llama with random weights and a byte-level BPE tokenizer of the rows; return its shape."""
    shape = SIZES[size]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["</s>", "<pad>"]
    trainer = trainers.BpeTrainer(
        vocab_size=shape["vocabulary"],
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (render_prompt(row["instruction"], row["input"]) + row["output"] for row in rows), trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], pad_token=special[1])
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=max(2048, max_length),
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return read_model_shape(folder / "config.json")
