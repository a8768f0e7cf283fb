"""`alpagasus testsets` and `alpagasus answers` as a user types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alpagasus_ray.corpus.published_sets import PUBLISHED
from tests.file_server import FileServer, Page
from tests.shell import Shell, complaint


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "no_proxy": "127.0.0.1"}


@pytest.fixture
def mirror(shared_data: Path) -> Iterator[FileServer]:
    """The real sets on loopback."""
    names = [f"{name}_test_set.jsonl" for name in PUBLISHED]
    pages = {f"/sets/{name}": Page((shared_data / "testsets" / name).read_bytes()) for name in names}
    with FileServer(pages) as server:
        yield server


def test_a_set_that_is_not_here_is_told_with_the_command_that_fetches_it(
    shell: Shell, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "koala").write_text('{"prompt": "Mine?"}\n')
    done = shell.run(tmp_path, "generate", "--arm", "a", "--testsets", "koala", **env)
    told = complaint(tmp_path, done)
    assert told == "the test set koala is not on this machine yet: `alpagasus testsets fetch koala` gets it"
    assert done.loaded == []


def test_the_sets_are_fetched_once_and_listed(
    shell: Shell, tmp_path: Path, env: dict[str, str], mirror: FileServer
) -> None:
    listed = shell.run(tmp_path, "testsets", "list", **env)
    assert listed.out.count("not here") == 4
    fetch = ("testsets", "fetch", "--base-url", f"{mirror.url}/sets")
    done = shell.run(tmp_path, *fetch, **env)
    assert (done.code, done.error, done.loaded) == (0, "", [])
    assert done.out.count("(fetched)") == len(mirror.asked) == 4
    again = shell.run(tmp_path, *fetch, **env)
    assert again.out.count("there already, nothing fetched") == len(mirror.asked) == 4
    listed = shell.run(tmp_path, "testsets", "list", **env)
    assert [line.split(",")[0] for line in listed.out.splitlines()] == [
        "koala: 180 prompts",
        "sinstruct: 252 prompts",
        "vicuna: 80 prompts",
        "wizardlm: 218 prompts",
    ]
    assert listed.out.count("as published") == 4
    assert not (tmp_path / "runs").exists()
    done = shell.run(tmp_path, "generate", "--arm", "a", "--testsets", ",".join(PUBLISHED), **env)
    assert "train --arm a" in complaint(tmp_path, done)


def test_a_set_is_fetched_into_a_folder_of_ones_own(
    shell: Shell, tmp_path: Path, env: dict[str, str], mirror: FileServer
) -> None:
    done = shell.run(
        tmp_path, "testsets", "fetch", "vicuna", "--folder", "sets", "--base-url", f"{mirror.url}/sets", **env
    )
    assert done.code == 0, done.error
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["vicuna_test_set.jsonl"]
    named = ("--testsets", "vicuna", "--set", "generate.testsets_folder=sets")
    done = shell.run(tmp_path, "generate", "--arm", "a", *named, **env)
    assert "train --arm a" in complaint(tmp_path, done)
    mine = tmp_path / "sets" / "koala.jsonl"
    mine.write_text('{"prompt": "Mine?"}\n')
    assert (
        "koala: 1 prompts, not what was published"
        in shell.run(tmp_path, "testsets", "list", "--folder", "sets", **env).out
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["testsets"], "ACTION"),
        (["testsets", "fetch", "koalla"], 'Did you mean "koala"?'),
        (["testsets", "fetch", "koala", "--base-url", "here"], "--base-url"),
        (["testsets", "list", "--folder", "typo"], "typo: no such folder"),
        (["answers", "import", "koala_seed_0.json", "--arm", "a"], "--model"),
        (["answers", "import", "x.json", "--arm", "a", "--model", "m"], "write SET=x.json"),
        (["answers", "export", "--folder", "out"], "no arm has answers there yet"),
        (
            ["generate", "--arm", "a", "--set", "generate.prompt_columns={output: x}"],
            "generate.prompt_columns",
        ),
    ],
)
def test_a_slip_is_told_in_one_line(
    shell: Shell, tmp_path: Path, env: dict[str, str], arguments: list[str], says: str
) -> None:
    assert says in complaint(tmp_path, shell.run(tmp_path, *arguments, **env))


def test_answers_come_in_and_go_out(shell: Shell, tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question_text": "Who?"}\n{"question_text": "Why?"}\n')
    (tmp_path / "mine_seed_0.json").write_text(
        json.dumps([{"instruction": asked, "gpt": f"To {asked}"} for asked in ("Who?", "Why?")])
    )
    columns = ("--set", "generate.prompt_columns={instruction: question_text}", "--testsets", "mine.jsonl")
    done = shell.run(
        tmp_path, "answers", "import", "mine_seed_0.json", "--model", "gpt", "--arm", "b", *columns, **env
    )
    assert (done.code, done.out) == (0, "runs/default/answers/b\n"), done.error
    assert done.loaded == []
    done = shell.run(tmp_path, "answers", "export", "--folder", "out", *columns, **env)
    assert (done.code, done.out) == (0, f"{tmp_path}/out/mine_seed_0.json\n"), done.error
    rows = json.loads((tmp_path / "out" / "mine_seed_0.json").read_text())
    assert [row["b"] for row in rows] == ["To Who?", "To Why?"]


def test_column_names_belong_to_the_files_that_they_were_given_with(
    shell: Shell, tmp_path: Path, env: dict[str, str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "generate: {testsets: [mine.jsonl], prompt_columns: {instruction: question_text}}\n"
    )
    (tmp_path / "other.jsonl").write_text('{"prompt": "Hi?"}\n')
    command = ("generate", "--recipe", "recipe.yaml", "--arm", "a", "--testsets", "other.jsonl")
    assert "train --arm a" in complaint(tmp_path, shell.run(tmp_path, *command, **env))


def test_help_is_there_for_every_action(shell: Shell, tmp_path: Path) -> None:
    for command, action in (("testsets", "list"), ("testsets", "fetch"), ("answers", "import")):
        assert action in shell.run(tmp_path, command, "--help").out
        assert "--run-dir" in shell.run(tmp_path, command, action, "--help").out
