"""Test sets in the paper's four shapes and in our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.corpus.testsets import Prompt, TestSet, check_names, read_testset
from alpagasus_ray.errors import UserError

FileOf = Callable[..., Path]


@pytest.fixture
def file_of(tmp_path: Path) -> FileOf:
    def write(*lines: Any, name: str = "mine_test_set.jsonl", end: str = "\n") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
        path.write_bytes("".join(f"{text}{end}" for text in texts).encode("utf-8", "surrogatepass"))
        return path

    return write


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_testset(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"id": "koala_0", "prompt": "Hi?"}, Prompt("koala_0", "Hi?")),
        (
            {"id": "u_0", "instruction": "Shorten.", "instances": [{"input": "Long.", "output": "x"}]},
            Prompt("u_0", "Shorten.", "Long."),
        ),
        ({"id": "u_1", "instruction": "Say hi.", "instances": [{"input": ""}]}, Prompt("u_1", "Say hi.")),
        ({"id": "u_2", "instruction": "Say hi.", "instances": []}, Prompt("u_2", "Say hi.")),
        ({"question_id": 1, "text": "Hi?", "category": "generic"}, Prompt("1", "Hi?", "", "generic")),
        ({"question_id": "vicuna_1", "text": "Hi?"}, Prompt("vicuna_1", "Hi?")),
        (
            {"idx": 3, "Skill": "Math", "Difficulty": 1, "Instruction": "1 + 1?"},
            Prompt("3", "1 + 1?", "", "Math"),
        ),
        ({"instruction": "Add.", "input": "1, 2", "category": "sum"}, Prompt("1", "Add.", "1, 2", "sum")),
        ({"instruction": "Add.", "input": None, "category": None}, Prompt("1", "Add.")),
        ({"id": 0, "prompt": "Hi?"}, Prompt("0", "Hi?")),
    ],
)
def test_a_row_of_each_shape_is_read(file_of: FileOf, row: dict[str, Any], prompt: Prompt) -> None:
    assert read_testset(file_of(row)).prompts == (prompt,)


def test_the_question_is_the_papers() -> None:
    assert Prompt("1", "Shorten.", "Long.").question == "Shorten. Input: Long."
    assert Prompt("1", "Shorten.").question == "Shorten."


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("koala_test_set.jsonl", "koala"),
        ("koala.jsonl", "koala"),
        ("my set.v2.jsonl", "my set.v2"),
        ("x.txt", "x.txt"),
    ],
)
def test_a_test_set_is_named_after_its_file(file_of: FileOf, file: str, name: str) -> None:
    assert read_testset(file_of({"prompt": "Hi?"}, name=file)).name == name


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ((), "no prompts"),
        (("", "  "), "no prompts"),
        (({"prompt": "a"}, "{oops"), "line 2"),
        (({"prompt": "a"}, "", "5"), "line 3"),
        (("[1]",), "line 1"),
        (("[" * 100_000,), "line 1: not JSON (nested too deeply"),
        (('{"prompt": ' + "1" * 5000 + "}",), "line 1: not JSON"),
        (({"prompt": "a"}, {"question_id": 4}), "line 2: no prompt"),
        (({"prompt": " "},), "line 1: the prompt is empty (prompt)"),
        (({"prompt": 5},), "line 1: the prompt is no text (prompt is 5)"),
        (({"prompt": None},), "line 1: no prompt"),
        (({"id": "x", "prompt": "a"}, {"id": "x", "prompt": "b"}), "the id x"),
        (({"id": 1, "prompt": "a"}, {"id": "1", "prompt": "b"}), "the id 1"),
        (('{"prompt": "half a \\ud83d"}',), "line 1"),
    ],
)
def test_a_bad_line_is_named(file_of: FileOf, lines: tuple[Any, ...], says: str) -> None:
    assert says in complaint(file_of(*lines))


def test_a_list_instead_of_lines_is_refused(file_of: FileOf) -> None:
    assert "line 1" in complaint(file_of(json.dumps([{"prompt": "a"}], indent=1)))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "nothing.jsonl")
    path = tmp_path / "binary.jsonl"
    path.write_bytes(b"\xff\xfe")
    assert "UTF-8" in complaint(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n \n"])
def test_how_lines_end_does_not_matter(file_of: FileOf, end: str) -> None:
    testset = read_testset(file_of({"prompt": "a"}, {"prompt": "b"}, end=end))
    assert [prompt.instruction for prompt in testset.prompts] == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(file_of: FileOf) -> None:
    assert read_testset(file_of('\ufeff{"prompt": "a"}')).prompts[0].instruction == "a"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_a_line_ends_only_where_json_lines_do(file_of: FileOf, separator: str) -> None:
    line = json.dumps({"prompt": f"a{separator}b"}, ensure_ascii=separator < " ")
    assert read_testset(file_of(line, {"prompt": "c"})).prompts[0].instruction == f"a{separator}b"


def test_rows_without_ids_are_numbered(file_of: FileOf) -> None:
    testset = read_testset(file_of({"prompt": "a"}, {"prompt": "a"}))
    assert [prompt.id for prompt in testset.prompts] == ["1", "2"]


COLUMNS = {"id": "number", "instruction": "question_text", "input": "context", "category": "topic"}


def test_columns_of_other_names_are_read_where_they_are_named(file_of: FileOf) -> None:
    first = {"number": 7, "id": "no", "question_text": "Sum?", "prompt": "no", "context": "1, 2"}
    path = file_of({**first, "topic": "maths", "category": "no"}, {"number": "b", "question_text": "Hi?"})
    assert read_testset(path, COLUMNS).prompts == (
        Prompt("7", "Sum?", "1, 2", "maths"),
        Prompt("b", "Hi?"),
    )
    # What is not named is found as ever.
    by_question = read_testset(path, {"instruction": "question_text"}).prompts
    assert by_question == (Prompt("no", "Sum?", "", "no"), Prompt("2", "Hi?"))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"number": 1, "question_text": " "}, r"line 2: the prompt is empty \(question_text\)"),
        ({"number": 1, "prompt": "Hi?"}, "line 2: no prompt under any of question_text"),
        ({"question_text": "Hi?", "id": 3}, "line 2: no id under number"),
        ({"number": 1, "question_text": "Hi?", "context": ["a"]}, "line 2: context is not a string"),
    ],
)
def test_a_row_without_a_named_column_is_told(file_of: FileOf, row: dict[str, Any], says: str) -> None:
    whole = {"number": 0, "question_text": "Who?", "context": "x", "topic": "y"}
    with pytest.raises(UserError, match=says):
        read_testset(file_of(whole, row), COLUMNS)


def test_a_named_column_that_no_row_has_is_told_with_those_that_are_there(file_of: FileOf) -> None:
    path = file_of({"prompt": "Hi?"}, {"prompt": "Ho?", "topic": "x"})
    with pytest.raises(UserError) as caught:
        read_testset(path, {"instruction": "question", "input": "context", "category": "topic"})
    assert str(caught.value) == (
        f"{path}: no row has the column context or question that generate.prompt_columns names "
        "(columns found: prompt, topic)"
    )


def test_who_has_other_columns_is_told_how_to_name_them(file_of: FileOf) -> None:
    assert "generate.prompt_columns={instruction: NAME}" in complaint(file_of({"question_text": "Hi?"}))


def test_two_test_sets_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="koala"):
        check_names([TestSet("koala", ()), TestSet("mine", ()), TestSet("koala", ())])
    check_names([TestSet("koala", ()), TestSet("mine", ())])


@pytest.mark.parametrize(
    ("name", "num_prompts", "num_inputs", "num_categories"),
    [("koala", 180, 0, 0), ("sinstruct", 252, 208, 0), ("vicuna", 80, 0, 9), ("wizardlm", 218, 0, 29)],
)
def test_the_papers_test_sets(
    shared_data: Path, name: str, num_prompts: int, num_inputs: int, num_categories: int
) -> None:
    testset = read_testset(shared_data / "testsets" / f"{name}_test_set.jsonl")
    assert testset.name == name
    assert len(testset.prompts) == len({prompt.id for prompt in testset.prompts}) == num_prompts
    with_input = [prompt for prompt in testset.prompts if prompt.input]
    assert len(with_input) == num_inputs
    assert all(prompt.question == f"{prompt.instruction} Input: {prompt.input}" for prompt in with_input)
    assert len({prompt.category for prompt in testset.prompts} - {None}) == num_categories


def test_a_test_set_cannot_take_the_name_of_all_of_them_together() -> None:
    with pytest.raises(UserError, match="cannot be called pooled"):
        check_names([TestSet("pooled", ())])
