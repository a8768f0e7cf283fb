"""The paper's test sets by name: which file a name means, and what counts as published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.cache import cache_folder
from alpagasus_ray.corpus.published_sets import (
    PUBLISHED,
    content_sha256,
    find_published,
    read_published,
)
from alpagasus_ray.corpus.testset_files import load_own_testsets, load_testsets, load_testsets_named
from alpagasus_ray.corpus.testsets import Prompt, parse_prompts, read_testset
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import GenerateSettings

KOALA = PUBLISHED["koala"]


def write(path: Path, *questions: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in questions))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "alpagasus_ray" / "testsets"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_pinned_hashes_are_those_of_the_real_sets(shared_data: Path, name: str) -> None:
    prompts = read_testset(shared_data / "testsets" / f"{name}_test_set.jsonl").prompts
    assert len(prompts) == PUBLISHED[name].num_prompts
    assert PUBLISHED[name].is_content(prompts)
    assert not PUBLISHED[name].is_content(prompts[::-1])
    assert not PUBLISHED[name].is_content((*prompts[1:], replace(prompts[0], input="more")))


def test_a_files_layout_does_not_change_its_content() -> None:
    one = parse_prompts('{"id": "a", "prompt": "Hi \\u00e9"}\r\n\n', "x")
    two = parse_prompts('\n{"prompt": "Hi é", "id": "a", "more": 1}', "y")
    assert content_sha256(one) == content_sha256(two)


@pytest.mark.parametrize(
    "changed",
    [{"id": "b"}, {"instruction": "Hi!"}, {"input": "x"}, {"category": "c"}],
)
def test_every_field_that_a_prompt_has_is_in_its_hash(changed: dict[str, str]) -> None:
    prompt = Prompt("a", "Hi?")
    assert content_sha256([prompt]) != content_sha256([replace(prompt, **changed)])


def test_the_users_folder_goes_before_the_cache(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.mkdir()
    assert find_published(KOALA, str(folder)) is None
    cached = write(cache / "koala_test_set.jsonl", "Cached?")
    assert find_published(KOALA, str(folder)) == find_published(KOALA, None) == cached
    short = write(folder / "koala.jsonl", "Short?")
    assert find_published(KOALA, str(folder)) == short
    long = write(folder / "koala_test_set.jsonl", "Long?")
    assert find_published(KOALA, str(folder)) == long
    assert read_published(KOALA, str(folder)).prompts == (Prompt("1", "Long?"),)


def test_a_folder_that_is_not_there_is_no_reason_to_take_another_file(cache: Path, tmp_path: Path) -> None:
    write(cache / "koala_test_set.jsonl", "Cached?")
    with pytest.raises(UserError, match=r"generate\.testsets_folder .*typo: no such folder"):
        read_published(KOALA, str(tmp_path / "typo"))


def test_a_cached_file_that_was_changed_is_not_taken_for_the_set(cache: Path) -> None:
    write(cache / "koala_test_set.jsonl", "Mine?")
    with pytest.raises(UserError, match=r"not what was published.*alpagasus testsets fetch koala"):
        read_published(KOALA, None)


def test_a_relative_cache_variable_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "here"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder("testsets") == tmp_path / ".cache" / "alpagasus_ray" / "testsets"


def test_a_name_is_never_taken_for_a_file(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: RunDirectory
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "koala", "Mine?")
    write(tmp_path / "koala_test_set.jsonl", "Mine too?")
    with pytest.raises(UserError, match="`alpagasus testsets fetch koala` gets it"):
        load_testsets(run, GenerateSettings(testsets=("koala",)))
    (mine,) = load_testsets(run, GenerateSettings(testsets=("./koala",)))
    assert (mine.name, mine.prompts) == ("koala", (Prompt("1", "Mine?"),))


def test_a_recipe_keeps_the_whole_path_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert GenerateSettings(testsets_folder="sets").testsets_folder == str(tmp_path / "sets")


def test_all_four_sets_are_read_by_name_from_a_folder(shared_data: Path, cache: Path) -> None:
    settings = GenerateSettings(testsets=tuple(PUBLISHED), testsets_folder=str(shared_data / "testsets"))
    sizes = {testset.name: len(testset.prompts) for testset in load_own_testsets(settings)}
    assert sizes == {"koala": 180, "sinstruct": 252, "vicuna": 80, "wizardlm": 218}


def test_columns_are_named_for_files_and_not_for_published_sets(
    cache: Path, tmp_path: Path, run: RunDirectory
) -> None:
    write(tmp_path / "sets" / "koala.jsonl", "Hi?")
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"question_text": "Who?", "prompt": "no"}\n')
    settings = GenerateSettings(
        testsets=("koala", str(mine)),
        testsets_folder=str(tmp_path / "sets"),
        prompt_columns={"instruction": "question_text"},
    )
    questions = [testset.prompts[0].question for testset in load_testsets(run, settings)]
    assert questions == ["Hi?", "Who?"]


def test_sets_by_name_are_the_recipes_own_before_the_papers(
    cache: Path, tmp_path: Path, run: RunDirectory
) -> None:
    own = write(tmp_path / "koala_test_set.jsonl", "Mine?")
    settings = GenerateSettings(testsets=(str(own),))
    found = load_testsets_named(run, settings, ["koala"])
    assert found["koala"].prompts == (Prompt("1", "Mine?"),)
    with pytest.raises(UserError, match="alpagasus testsets fetch vicuna"):
        load_testsets_named(run, settings, ["vicuna"])
    with pytest.raises(UserError, match=r"no test set novel \(named are koala\): .*--testsets FILE"):
        load_testsets_named(run, settings, ["novel"])


def test_two_sets_of_one_name_are_refused_wherever_they_come_from(
    cache: Path, tmp_path: Path, run: RunDirectory
) -> None:
    own = write(tmp_path / "sets" / "koala.jsonl", "Hi?")
    settings = GenerateSettings(testsets=("koala", str(own)), testsets_folder=str(own.parent))
    for load in (lambda: load_testsets(run, settings), lambda: load_own_testsets(settings)):
        with pytest.raises(UserError, match="two test sets have one name: koala"):
            load()
