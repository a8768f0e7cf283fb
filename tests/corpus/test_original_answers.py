"""The originals' answer files: read by what is asked, and written so that they are read back the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.corpus.original_answers import FIELDS, answer_file, answers_of_model, set_in_name
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.corpus.testsets import Prompt, TestSet, read_testset
from alpagasus_ray.errors import UserError

KOALA = TestSet("koala", (Prompt("koala_0", "Who?"), Prompt("koala_1", "Why?"), Prompt("koala_2", "How?")))
# As the AlpaGasus2-QLoRA files have it: the ids are counted from one.
ROWS: list[dict[str, Any]] = [
    {"question_id": "koala_1", "prompt": "Who?", "ours": "\nMe.\n\n", "theirs": "You."},
    {"question_id": "koala_2", "prompt": "Why?", "ours": "", "theirs": "So."},
    {"question_id": "koala_3", "prompt": "How?", "ours": "Thus.", "theirs": "Not."},
]


def read(rows: Any, model: str = "ours", testset: TestSet = KOALA) -> dict[str, str]:
    return answers_of_model(json.dumps(rows), "koala_seed_0.json", testset, model).texts


def complaint(text: str, model: str = "ours") -> str:
    with pytest.raises(UserError) as caught:
        answers_of_model(text, "dir/koala_seed_0.json", KOALA, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_answers_get_the_sets_own_ids_by_what_is_asked() -> None:
    """The files count anew: their koala_1 is the set's koala_0."""
    assert read(ROWS) == {"koala_0": "\nMe.\n\n", "koala_1": "", "koala_2": "Thus."}
    assert read(ROWS[::-1], "theirs") == {"koala_0": "You.", "koala_1": "So.", "koala_2": "Not."}


@pytest.mark.parametrize(
    ("name", "testset"),
    [("koala_seed_0.json", "koala"), ("my_set_seed_12.json", "my_set"), ("koala.json", None)],
)
def test_a_files_name_tells_its_set(name: str, testset: str | None) -> None:
    assert set_in_name(name) == testset


def test_an_answer_that_is_none_is_counted_with_its_reason() -> None:
    broken = {**ROWS[1], "ours": "half a \ud83d"}
    whole = TestSet("koala", (*KOALA.prompts, Prompt("a", "A?"), Prompt("b", "B?"), Prompt("c", "C?")))
    rows = [ROWS[0], broken, {"prompt": "A?", "theirs": "x"}, {"prompt": "B?", "ours": 5}]
    found = answers_of_model(json.dumps(rows), "x", whole, "ours")
    assert found.texts == {"koala_0": "\nMe.\n\n"}
    assert found.failures == {
        "text is not valid Unicode": 1,
        "no row in the file": 2,
        "no answer in its row": 1,
        "answer is not a string": 1,
    }


def test_the_whole_prompt_before_an_answer_is_cut_off() -> None:
    """As gauss5930's files have it for alpaca2; a part of it, or the word Response, cuts nothing."""
    asked = render_prompt("Who?")
    rows = [
        {"prompt": "Who?", "ours": f"{asked}\n I said: ### Response: me\n"},
        {"prompt": "Why?", "ours": f"{asked}No: {asked}"},
        {"prompt": "How?", "ours": "So ### Response: thus"},
    ]
    found = answers_of_model(json.dumps(rows), "x", KOALA, "ours")
    assert found.texts == {
        "koala_0": " I said: ### Response: me\n",
        "koala_1": f"{asked}No: {asked}",
        "koala_2": "So ### Response: thus",
    }
    assert found.num_echoes == 1


def test_what_a_set_asks_twice_is_answered_in_its_order() -> None:
    twice = TestSet("wizardlm", (Prompt("1", "Who?"), Prompt("2", "Why?"), Prompt("3", "Who?")))
    rows = [{"Instruction": asked, "ours": f"{n}"} for n, asked in enumerate(("Who?", "Why?", "Who?"))]
    assert read(rows, testset=twice) == {"1": "0", "2": "1", "3": "2"}
    with pytest.raises(UserError, match="row 4: its prompt stands there more often than in the test set"):
        read([*rows, rows[0]], testset=twice)


def test_inputs_tell_prompts_of_one_instruction_apart() -> None:
    testset = TestSet("sinstruct", (Prompt("a", "Add.", "1"), Prompt("b", "Add.", "2"), Prompt("c", "Add.")))
    rows = [
        {"instruction": "Add.", "instances": [{"input": "2", "output": "x"}], "ours": "B"},
        {"instruction": "Add.", "instances": [{"input": ""}], "ours": "C"},
        {"instruction": "Add.", "instances": [{"input": "1"}], "ours": "A"},
    ]
    assert read(rows, testset=testset) == {"a": "A", "b": "B", "c": "C"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{", "line 1: not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "a list of prompts"),
        ("[]", "a list of prompts"),
        ('[{"prompt": "Who?", "ours": "x"}, 5]', "row 2: an object is expected"),
        ('[{"prompt": "Who?", "ours": "x"}, {"ours": "y"}]', "row 2: no prompt under any of"),
        (
            '[{"prompt": "Who?", "ours": "x"}, {"prompt": "When?"}]',
            "row 2: its prompt is not in the test set",
        ),
        (
            json.dumps(ROWS).replace("ours", "mine"),
            "no row has an answer of ours (models found: mine, theirs)",
        ),
        ('[{"prompt": "Who?", "score": [1, 2]}]', "(models found: none)"),
    ],
)
def test_a_file_that_is_none_of_the_set_is_told_with_its_row(text: str, says: str) -> None:
    told = complaint(text)
    assert told.startswith("dir/koala_seed_0.json")
    assert says in told


@pytest.mark.parametrize("field", ["prompt", "score", "instances"])
def test_a_field_of_the_prompts_cannot_be_a_model(field: str) -> None:
    assert field in complaint(json.dumps(ROWS), field)
    with pytest.raises(UserError, match=field):
        answer_file(KOALA, {field: {}})


@pytest.mark.parametrize(
    ("name", "prompt", "item"),
    [
        ("koala", Prompt("koala_0", "Who?"), {"question_id": "koala_0", "prompt": "Who?"}),
        (
            "vicuna",
            Prompt("1", "Who?", "", "generic"),
            {"question_id": "1", "text": "Who?", "category": "generic"},
        ),
        (
            "sinstruct",
            Prompt("u_0", "Add.", "1, 2"),
            {"question_id": "u_0", "instruction": "Add.", "instances": [{"input": "1, 2"}]},
        ),
        (
            "sinstruct",
            Prompt("u_1", "Say hi."),
            {"question_id": "u_1", "instruction": "Say hi.", "instances": [{"input": ""}]},
        ),
        (
            "wizardlm",
            Prompt("3", "1 + 1?", "", "Math"),
            {"question_id": "3", "Instruction": "1 + 1?", "Skill": "Math"},
        ),
        ("mine", Prompt("x", "Add.", "1"), {"question_id": "x", "instruction": "Add.", "input": "1"}),
    ],
)
def test_each_set_is_written_with_its_own_columns(name: str, prompt: Prompt, item: dict[str, Any]) -> None:
    text = answer_file(TestSet(name, (prompt,)), {"b": {prompt.id: "B"}, "a": {}})
    assert json.loads(text) == [{**item, "b": "B"}]
    assert text.startswith("[\n    {\n        ")


NAMES = st.sampled_from(["koala", "vicuna", "sinstruct", "wizardlm", "mine"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
QUESTIONS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@st.composite
def answered_sets(draw: st.DrawFn) -> tuple[TestSet, dict[str, dict[str, str]]]:
    asked = draw(st.lists(st.tuples(QUESTIONS, TEXT, st.none() | TEXT), min_size=1, max_size=6))
    prompts = tuple(Prompt(f"p{number}", *one) for number, one in enumerate(asked))
    models = draw(st.lists(QUESTIONS.filter(lambda name: name not in FIELDS), min_size=1, unique=True))
    ids = st.sampled_from([prompt.id for prompt in prompts])
    answers = {model: draw(st.dictionaries(ids, TEXT, min_size=1)) for model in models}
    return TestSet(draw(NAMES), prompts), answers


@given(answered_sets())
def test_what_is_written_is_read_back(case: tuple[TestSet, dict[str, dict[str, str]]]) -> None:
    testset, answers = case
    text = answer_file(testset, answers)
    for model, texts in answers.items():
        found = answers_of_model(text, "x", testset, model)
        assert found.texts == texts
        assert found.failures.total() == len(testset.prompts) - len(texts)
        assert found.num_echoes == 0


@pytest.mark.parametrize("order", ["alpaca2-alpagasus2", "alpagasus2-alpaca2"])
@pytest.mark.parametrize("name", ["koala", "vicuna"])
def test_the_recorded_files_fit_the_real_sets(shared_data: Path, name: str, order: str) -> None:
    testset = read_testset(shared_data / "testsets" / f"{name}_test_set.jsonl")
    text = (shared_data / "recorded" / f"{order}-{name}.json").read_text(encoding="utf-8")
    rows = json.loads(text)
    for model in ("alpaca2", "alpagasus2"):
        found = answers_of_model(text, "x", testset, model)
        assert list(found.texts.values()) == [row[model] for row in rows]
        assert found.failures.total() == found.num_echoes == 0
    written = json.loads(answer_file(testset, {"alpaca2": found.texts}))
    key = {"koala": "prompt", "vicuna": "text"}[name]
    assert [row[key] for row in written] == [row[key] for row in rows]
