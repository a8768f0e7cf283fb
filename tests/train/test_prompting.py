"""What an instruction is written into: training, the saved chat template and serving agree to the token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.corpus.template import chat_message, render_prompt
from alpagasus_ray.corpus.triplets import parse_triplet
from alpagasus_ray.errors import UserError
from alpagasus_ray.train.examples import build_examples
from alpagasus_ray.train.prompting import AlpacaPrompting, ChatPrompting, pinned
from tests.train.small_tokenizers import CHATML, DATED, LLAMA2, LONE_USER, THINKING, fast_tokenizer
from tests.train.test_examples import ROWS

pytestmark = pytest.mark.slow
TEMPLATES = {"chatml": CHATML, "llama2": LLAMA2, "dated": DATED}


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no bos"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer with Alpaca's chat template, saved and loaded as vLLM does."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("exported")
    tokenizer = fast_tokenizer(CHATML, request.param)
    tokenizer.chat_template = AlpacaPrompting(tokenizer).chat_template()
    tokenizer.save_pretrained(folder)
    assert (folder / "chat_template.jinja").exists()
    return AutoTokenizer.from_pretrained(folder)


@given(instruction=st.text(min_size=1))
@settings(max_examples=200)
def test_one_user_message_has_the_tokens_of_an_instruction_without_input(
    exported: Any, instruction: str
) -> None:
    message = [{"role": "user", "content": instruction}]
    served = exported.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    assert served == exported(render_prompt(instruction))["input_ids"]
    text = exported.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert text.removeprefix("<bos>") == render_prompt(instruction)


def test_what_training_never_saw_is_refused_in_words(exported: Any) -> None:
    user, system = {"role": "user", "content": "Hi."}, {"role": "system", "content": "Be brief."}
    for messages in ([system, user], [user, {"role": "assistant", "content": "Hi."}, user]):
        with pytest.raises(jinja2.TemplateError, match="one user message"):
            exported.apply_chat_template(messages, tokenize=False)


def test_an_exported_model_trained_again_by_its_template_sees_the_same(exported: Any) -> None:
    rows = [{**row, "input": ""} for row in ROWS]
    assert build_examples(rows, exported, 512, template="chat") == build_examples(rows, exported, 512)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("row", ROWS)
def test_a_chat_example_is_the_template_with_the_answer_to_its_end(row: dict[str, Any], name: str) -> None:
    tokenizer = fast_tokenizer(TEMPLATES[name])
    (example,), dropped = build_examples([row], tokenizer, 512, template="chat")
    assert dropped == {}
    text = tokenizer.decode(example.input_ids)
    prompt = tokenizer.decode(example.input_ids[: example.num_prompt_tokens])
    assert chat_message(row["instruction"], row.get("input") or "").strip() in prompt
    assert row["output"].strip() not in prompt and row["output"].strip() in text
    end = "<eos>" if name == "llama2" else "<|im_end|>"
    assert text.endswith(end) and text.count("<eos>") == int(name == "llama2")
    assert text.count("<bos>") == int(name != "chatml"), "never twice, and only where the template has it"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_prompt_has_the_tokens_of_a_served_message(name: str) -> None:
    tokenizer = fast_tokenizer(TEMPLATES[name])
    prompting = ChatPrompting(tokenizer)
    tokenizer.chat_template = prompting.chat_template()
    examples, _ = build_examples(ROWS, tokenizer, 512, template="chat")
    for row, example in zip(ROWS, examples, strict=True):
        message = {"role": "user", "content": chat_message(row["instruction"], row.get("input") or "")}
        served = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
        assert list(example.input_ids[: example.num_prompt_tokens]) == served
        assert prompting.served_ids(parse_triplet(row)) == served


def test_a_template_that_writes_the_date_writes_the_same_one_every_day() -> None:
    tokenizer = fast_tokenizer(DATED)
    template = ChatPrompting(tokenizer).chat_template()
    assert "strftime_now" not in template and "26 Jul 2024" in template
    assert pinned(CHATML) == CHATML


@pytest.mark.parametrize(
    ("template", "says"),
    [(None, "no chat template"), (THINKING, "cannot be trained on"), (LONE_USER, r"one message")],
)
def test_a_template_that_training_cannot_use_is_told_in_one_line(template: str | None, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        build_examples(ROWS, fast_tokenizer(template), 512, template="chat")
    assert "\n" not in str(caught.value) and "alpaca" in str(caught.value)


def test_a_row_that_the_template_refuses_is_dropped_and_counted() -> None:
    picky = "{% if 'fruit' in messages[0]['content'] and 'Na' not in messages[0]['content'] %}" + (
        "{{ raise_exception('no fruit') }}{% endif %}" + CHATML
    )
    rows = [ROWS[0], {"instruction": "Eat fruit.", "input": "", "output": "Yes."}]
    examples, dropped = build_examples(rows, fast_tokenizer(picky), 512, template="chat")
    assert (len(examples), dropped) == (1, {"the chat template refuses it": 1})


def test_a_tokenizer_that_no_template_suits_gets_none(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = fast_tokenizer(CHATML)
    mark = ("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[mark]
    )
    assert AlpacaPrompting(tokenizer).chat_template() is None


def test_the_alpaca_template_renders_one_exchange_and_nothing_else() -> None:
    tokenizer = fast_tokenizer()
    tokenizer.chat_template = AlpacaPrompting(tokenizer).chat_template()
    user, answer = {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A pear."}

    def rendered(*messages: dict[str, str], add_generation_prompt: bool) -> str:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )

    prompt = rendered(user, add_generation_prompt=True)
    assert prompt.endswith(render_prompt("Name a fruit."))
    assert rendered(user, answer, add_generation_prompt=False) == f"{prompt}A pear.<eos>"
    for messages in ([user, user], [user, answer], [answer], [user, answer, user]):
        with pytest.raises(jinja2.TemplateError, match="send one user message"):
            rendered(*messages, add_generation_prompt=True)
