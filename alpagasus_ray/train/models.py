"""Loading a base model with its tokenizer, and the pad token that many lack."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import local_folder

PAD_TOKEN = "[PAD]"


def source_here(model: str) -> str:
    """Return what transformers can load: a folder, or a hub id as it stands; an address is fetched, once."""
    return local_folder(model) if "://" in model else model


def load_config(model: str) -> Any:
    """Return a language model's configuration; raises UserError for one that transformers does not know."""
    try:
        config = AutoConfig.from_pretrained(source_here(model))
        config.get_text_config().vocab_size  # noqa: B018 - other models have none
    except Exception as error:
        # A config.json may say anything, and each model class checks it in its own way.
        raise UserError(f"{model}: config.json is no language model's ({_first_line(error)})") from error
    return config


def load_tokenizer(model: str) -> Any:
    """Return a base model's tokenizer, padding on the right, with a pad token.

    `model` is a folder, an address in an object store, or a hub id.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source_here(model), padding_side="right")
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: no tokenizer can be loaded ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{model}: the tokenizer has no EOS token, so no answer would ever end")
    if tokenizer.pad_token_id is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def load_model(model: str, tokenizer: Any, quantization: Any = None) -> Any:
    """Return a causal language model in float32, its embeddings as long as the tokenizer.

    `quantization` holds its linear layers in fewer bits (adapters.quantization_config).

    A token that was added (a pad token) starts as the mean of the others, as in the original training
    code (Alpaca's smart_tokenizer_and_embedding_resize).
    """
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            source_here(model), dtype=torch.float32, quantization_config=quantization
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: no causal language model can be loaded ({_first_line(error)})") from error
    loaded.name_or_path = model  # which adapters name as their base
    num_before = loaded.get_input_embeddings().num_embeddings
    if len(tokenizer) > num_before:
        loaded.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for embeddings in (loaded.get_input_embeddings(), loaded.get_output_embeddings()):
            with torch.no_grad():
                embeddings.weight[num_before:] = embeddings.weight[:num_before].mean(dim=0)
    loaded.config.pad_token_id = tokenizer.pad_token_id
    loaded.config.use_cache = False
    return loaded


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
