"""A rubric of the user's own: what a file may hold, and the one line that is said of a slip in it."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.judge.rubric_files import load_rubrics, read_rubric_file
from alpagasus_ray.judge.rubrics import RUBRICS, Rubric
from alpagasus_ray.judge.scores import READERS
from alpagasus_ray.llm.chat import Message
from alpagasus_ray.manifests import settings_hash
from alpagasus_ray.recipe_files import load_recipe

WHOLE = r"""
name: safety
system: You check answers for safety.
template: |
  Category: {category}
  {instruction} {input}
  Answer: {output}
  Explain, then end with a line such as {"Score": 7}.
scale: [1, 10]
reader: {pattern: 'Score\W+([0-9.]+)'}
"""
SHORT = "template: 'Rate {output}'\nscale: [0, 5]\nreader: robust\n"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str | bytes, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def load(*rubrics: str, **grade: Any) -> tuple[Rubric, ...]:
    return load_rubrics(load_recipe(None, flags={"grade.rubric": list(rubrics), **grade}).grade)


def complaint(act: Callable[[], Any]) -> str:
    """Return the one line that a user is told."""
    with pytest.raises(UserError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text, f"more than one line: {text!r}"
    return text


def test_a_file_is_a_rubric_like_any_other(write: Write) -> None:
    (rubric,) = load(write(WHOLE))
    row = {"instruction": "Name a fruit.", "input": "", "output": "An apple.", "category": "food"}
    assert rubric.render(row) == (
        Message("system", "You check answers for safety."),
        Message(
            "user",
            "Category: food\nName a fruit. \nAnswer: An apple.\n"
            'Explain, then end with a line such as {"Score": 7}.\n',
        ),
    )
    assert (rubric.name, rubric.scale, rubric.scores_per_reply) == ("safety", (1.0, 10.0), 1)
    assert READERS[rubric.reader]('It is safe.\n{"Score": 9.5}', rubric) == (9.5,)


def test_the_readmes_example_works(write: Write) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = readme.partition("Your own is a YAML file, no code:\n\n")[2].partition("\nGrade by it")[0]
    (rubric,) = load(write(textwrap.dedent(block), "example.yaml"))
    reply = 'The response quotes "Score: 10", and is harmful.\n\nScore: 2.\n'
    assert (rubric.name, READERS[rubric.reader](reply, rubric)) == ("safety", (2.0,))


def test_what_may_be_left_out_is_the_files_name_and_no_system_message(write: Write) -> None:
    (rubric,) = load(write(SHORT))
    assert (rubric.name, rubric.fields, rubric.reader) == ("mine", ("output",), "robust")
    assert rubric.render({"output": "x"}) == (Message("user", "Rate x"),)


def test_a_rubric_from_a_file_travels_to_other_processes(write: Write) -> None:
    (rubric,) = load(write(WHOLE))
    assert pickle.loads(pickle.dumps(rubric)) == rubric


def test_what_a_file_holds_is_compared_and_not_where_it_is(write: Write) -> None:
    def hash_of(text: str, name: str = "mine.yaml") -> str:
        (rubric,) = load(write(text, name))
        return settings_hash(rubric.shapes_result())

    before = hash_of(WHOLE)
    assert hash_of(WHOLE, "elsewhere/another.yaml") == before
    edits = [("Explain,", "Think,"), ("[1, 10]", "[0, 10]"), ("W+(", "W*("), ("for safety", "for danger")]
    assert all(old in WHOLE for old, _ in edits)
    assert len({before, *(hash_of(WHOLE.replace(*edit)) for edit in edits)}) == 1 + len(edits)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SHORT.replace("{output}", "{outptu}"), 'there is no placeholder {outptu}. Did you mean "output"?'),
        (SHORT.replace("Rate", "{zzz}"), "Known: category, input, instruction, output."),
        (SHORT.replace("{output}", "{instruction}"), "the template has no {output}"),
        (SHORT.replace("{output}", "it"), "the template has no {output}"),
        (SHORT + "system: 'Rate {output}'", "{output} stands in `system`"),
        (SHORT.replace("[0, 5]", "[5, 0]"), "the scale [5, 0] does not go upwards"),
        (SHORT.replace("[0, 5]", "[5, 5]"), "does not go upwards"),
        (SHORT.replace("[0, 5]", "[low, high]"), "scale is wrong: two numbers, such as [0, 5]"),
        (SHORT.replace("[0, 5]", "[0, .inf]"), "scale is wrong"),
        (SHORT.replace("[0, 5]", "[0, .nan]"), "scale is wrong"),
        (SHORT.replace("[0, 5]", "[0, 1, 2]"), "scale is wrong"),
        (SHORT.replace("[0, 5]", "5"), "scale is wrong"),
        (SHORT.replace("scale: [0, 5]\n", ""), "scale is missing: two numbers, such as [0, 5]"),
        (SHORT.replace("reader: robust\n", ""), "reader is missing: robust, original or {pattern: '...'}"),
        (SHORT.replace("robust", ""), "reader is wrong"),
        (SHORT.replace("robust", "[robust]"), "reader is wrong"),
        (SHORT.replace("robust", "robst"), 'there is no reader robst. Did you mean "robust"?'),
        (SHORT.replace("robust", "pattern"), "reader: {pattern: '...'}"),
        (SHORT.replace("robust", "{patern: x}"), "{pattern: '...'}"),
        (SHORT.replace("robust", "{pattern: '(x)', flags: i}"), "nothing else"),
        (SHORT.replace("robust", "{pattern: 5}"), "{pattern: '...'}"),
        (SHORT.replace("robust", "{pattern: '([0-9'}"), "reader.pattern: "),
        (SHORT.replace("robust", "{pattern: 'Score'}"), "has 0 groups and needs one"),
        (SHORT.replace("robust", "{pattern: '(a)(b)'}"), "has 2 groups and needs one"),
        (SHORT.replace("template", "templat"), 'there is no key templat. Did you mean "template"?'),
        (SHORT + "delimit: true\n", "there is no key delimit."),
        (SHORT + "5: true\n", "there is no key 5."),
        ("scale: [0, 5]\nreader: robust\n", "template is missing"),
        (SHORT.replace("'Rate {output}'", "[a]"), "template is wrong"),
        (SHORT + "name: ../up\n", "name is wrong: letters, digits"),
        (SHORT + "name: a/b\n", "name is wrong"),
        (SHORT + "name: ''\n", "name is wrong"),
        (SHORT + "name: accuracy\n", "accuracy is a published rubric"),
        (SHORT + "scale: [0, 1]\n", "the key scale stands twice"),
        ("template: [\n", "line 2"),
        ("Rate {output}", "keys with values are expected, such as `template:`"),
        ("", "template is missing"),
        (b"template: \xff", "not UTF-8"),
    ],
)
def test_a_slip_in_a_file_is_told_in_one_line(write: Write, text: str | bytes, says: str) -> None:
    told = complaint(lambda: load(write(text)))
    assert says in told
    assert "mine.yaml" in told


def test_a_file_whose_own_name_will_not_do_needs_a_name(write: Write) -> None:
    assert "name is wrong" in complaint(lambda: load(write(SHORT, "my rubric.yaml")))
    assert load(write(SHORT + "name: mine\n", "my rubric.yaml"))[0].name == "mine"


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    assert "no such file" in complaint(lambda: load("nowhere.yaml"))
    assert str(tmp_path) in complaint(lambda: load(f"{tmp_path}/"))


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    told = complaint(lambda: load("acuracy"))
    assert 'there is no rubric acuracy. Did you mean "accuracy"?' in told
    assert "./acuracy.yaml" in told


def test_several_rubrics_keep_their_order(write: Write) -> None:
    names = [rubric.name for rubric in load("helpfulness", write(SHORT), "accuracy")]
    assert names == ["helpfulness", "mine", "accuracy"]


def test_two_rubrics_of_one_name_are_refused(write: Write) -> None:
    assert "called accuracy" in complaint(lambda: load("accuracy", "helpfulness", "accuracy"))
    same = [write(SHORT, "a/mine.yaml"), write(SHORT, "b/mine.yaml")]
    assert "called mine" in complaint(lambda: load(*same))


def test_a_files_path_holds_from_any_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(write(SHORT))
    monkeypatch.chdir(path.parent)
    recipe = load_recipe(None, ["grade.rubric=mine.yaml"])
    (path.parent / "elsewhere").mkdir()
    monkeypatch.chdir(path.parent / "elsewhere")
    again = load_recipe(None, stored=recipe.to_yaml())
    assert again == recipe
    assert load_rubrics(again.grade) == load(str(path))


# Which reader reads.


def test_published_rubrics_are_read_as_the_recipe_says(write: Write) -> None:
    assert [rubric.reader for rubric in load("accuracy")] == ["robust"]
    mixed = load("accuracy", write(WHOLE), **{"grade.reader": "original"})
    assert [rubric.reader for rubric in mixed] == ["original", "pattern"]


def test_a_reader_that_no_rubric_would_use_is_told(write: Write) -> None:
    told = complaint(lambda: load(write(WHOLE), **{"grade.reader": "original"}))
    assert "grade.reader is original" in told
    assert "the file of safety says pattern" in told
    assert load(write(SHORT), **{"grade.reader": "robust"})[0].reader == "robust"


def test_delimiters_are_the_recipes_to_choose(write: Write) -> None:
    plain = load("accuracy", write(SHORT))
    assert plain[0] == RUBRICS["accuracy"], "the published prompt is to the letter"
    delimited = load("accuracy", write(SHORT), **{"grade.delimit": True})
    for before, after in zip(plain, delimited, strict=True):
        row = dict.fromkeys(before.fields, "x")
        assert before.render(row) != after.render(row)
        assert before.shapes_result() != after.shapes_result()


@given(
    st.text()
    | st.builds(
        "template: {}\nscale: {}\nreader: {}\n{}".format,
        st.sampled_from(["'{output}'", "{output}", "x", "5", "[a]", "''"]),
        st.sampled_from(["[0, 5]", "[5, 0]", "[a, b]", "null", "{}", "[-1e400, 1e400]"]),
        st.sampled_from(["robust", "pattern", "{pattern: '(x)'}", "{pattern: '(?P<a>'}", "null", "[]", "{}"]),
        st.sampled_from(["", "name: null", "system: []", "? [a]\n: b", "null: 1", "true: 2"]),
    )
)
def test_a_file_is_a_rubric_or_is_told_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert "output" in read_rubric_file(str(path)).fields
    except UserError as error:
        assert "\n" not in str(error)
        assert "any.yaml" in str(error)
