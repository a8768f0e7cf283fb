"""Real tokenizers of transformers over a byte-level BPE of a few words, and chat templates of others."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken

from tests.train.test_examples import TinyTokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen's, without its system message; it writes no BOS."""
LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Llama 2's, which writes BOS itself."""
DATED = "{{ bos_token + 'Today is ' + strftime_now('%d %b %Y') + '.\n' }}" + CHATML
"""As Llama 3.2's."""
THINKING = CHATML.replace(
    "<|im_start|>assistant\n' }}{% endif %}", "<|im_start|>assistant\n<think>' }}{% endif %}"
)
"""As DeepSeek-R1's: the prompt opens what no stored answer has."""
LONE_USER = "{% if messages | length > 1 %}{{ raise_exception('one message') }}{% endif %}" + CHATML


def fast_tokenizer(chat_template: str | None = None, bos: bool = True) -> Any:
    """Return a tokenizer that adds BOS to raw prompts, where asked, with ChatML's marks as special tokens."""
    from transformers import PreTrainedTokenizerFast

    inner = TinyTokenizer(bos)._tokenizer
    inner.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>", "<pad>")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<eos>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        **({"bos_token": "<bos>"} if bos else {}),
    )
    tokenizer.chat_template = chat_template
    return tokenizer
