"""Answers that come in from the originals' files and go out to them, and what compare makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.compare.pairing import pair
from alpagasus_ray.console import Console, plain_console
from alpagasus_ray.corpus.answers import read_committed_answers
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.exporting import export_answers
from alpagasus_ray.generate.importing import import_answers
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import Recipe
from alpagasus_ray.recipe_files import parse_recipe

SETS: dict[str, list[dict[str, Any]]] = {
    "koala": [{"id": f"koala_{number}", "prompt": f"Question {number}?"} for number in range(3)],
    "sinstruct": [
        {"id": "s_0", "instruction": "Add.", "instances": [{"input": "2, 3"}]},
        {"id": "s_1", "instruction": "Say hello.", "instances": [{"input": ""}]},
    ],
}


class Desk:
    """A run, two test sets in files, and answer files."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        self.run, self.folder = run, folder
        for name, rows in SETS.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.write("koala", SETS["koala"])
        self.write("sinstruct", SETS["sinstruct"])

    @property
    def console(self) -> Console:
        """On the streams of this moment: capsys changes them."""
        return plain_console()

    @property
    def recipe(self) -> Recipe:
        return parse_recipe({"generate": {"testsets": [str(self.folder / f"{name}.jsonl") for name in SETS]}})

    def write(self, name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
        path = self.folder / f"{name}_seed_0.json"
        items = [{**row, "ours": f"Ours {n}", "theirs": f"Theirs {n}", **more} for n, row in enumerate(rows)]
        path.write_text(json.dumps(items))
        return path

    def take(self, *files: str, model: str = "ours", arm: str = "mine") -> Manifest:
        names = [name if "=" in name else str(self.folder / name) for name in files]
        return import_answers(self.run, self.recipe, names, model, arm, self.console)

    def give(self, folder: Path, *arms: str) -> list[Path]:
        return export_answers(self.run, self.recipe, str(folder), arms or None, self.console)


@pytest.fixture
def desk(run: RunDirectory, tmp_path: Path) -> Desk:
    return Desk(run, tmp_path)


def test_imported_answers_are_compared_like_any_others(desk: Desk) -> None:
    desk.take("koala_seed_0.json", "sinstruct_seed_0.json")
    desk.take("koala_seed_0.json", "sinstruct_seed_0.json", model="theirs", arm="other")
    pairing = pair(*(read_committed_answers(desk.run, arm) for arm in ("mine", "other")))
    assert pairing.unpaired == {}
    assert len(pairing.rows) == 2 * 5
    assert pairing.rows[6] == {
        "testset": "sinstruct",
        "prompt_id": "s_0",
        "order": "first",
        "question": "Add. Input: 2, 3",
        "answer_1": "Ours 0",
        "answer_2": "Theirs 0",
    }


def test_the_manifest_tells_where_answers_came_from(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((desk.folder / "koala_seed_0.json").read_text())
    del rows[1]["ours"]
    (desk.folder / "koala_seed_0.json").write_text(json.dumps(rows))
    manifest = desk.take("koala_seed_0.json", "sinstruct_seed_0.json")
    assert manifest.counts == {"koala": 2, "sinstruct": 2, "answers": 4}
    assert manifest.failures == {"no answer in its row": 1}
    assert manifest.details["imported_from"] == {
        "koala": "koala_seed_0.json",
        "sinstruct": "sinstruct_seed_0.json",
    }
    assert manifest.details["model"] == "ours"
    told = capsys.readouterr().err
    assert "4 of ours are now mine's" in told and "no answer in its row (1)" in told
    (answer, *_) = read_committed_answers(desk.run, "mine")["koala"].values()
    assert (answer.model_id, answer.finish_reason) == ("ours", "unknown")


def test_the_same_file_again_changes_nothing_and_another_does(desk: Desk) -> None:
    first = desk.take("koala_seed_0.json")
    assert desk.take("koala_seed_0.json").content == first.content
    before = desk.run.manifest("answers/mine")
    desk.write("koala", SETS["koala"], ours="New.")
    assert desk.take("koala_seed_0.json").content != first.content
    assert before != desk.run.manifest("answers/mine")


def test_a_file_that_does_not_fit_leaves_the_old_answers(desk: Desk) -> None:
    first = desk.take("koala_seed_0.json")
    desk.write("koala", [*SETS["koala"], {"prompt": "Another?"}])
    with pytest.raises(
        UserError, match=r"koala_seed_0\.json, row 4: its prompt is not in the test set koala"
    ):
        desk.take("koala_seed_0.json")
    assert desk.run.manifest("answers/mine") == first


def test_a_set_can_be_told_where_the_files_name_does_not(desk: Desk) -> None:
    path = desk.folder / "ours-theirs-koala.json"
    (desk.folder / "koala_seed_0.json").rename(path)
    with pytest.raises(UserError, match="write SET="):
        desk.take(path.name)
    assert desk.take(f"koala={path}").counts["koala"] == 3
    equals = path.rename(desk.folder / "a=b_seed_0.json")
    with pytest.raises(UserError, match="no test set a=b"):
        import_answers(desk.run, desk.recipe, [str(equals)], "ours", "mine", desk.console)


def test_two_files_about_one_set_are_refused(desk: Desk) -> None:
    with pytest.raises(UserError, match="are both about koala"):
        desk.take("koala_seed_0.json", f"koala={desk.folder / 'koala_seed_0.json'}")


def test_a_file_or_a_set_that_is_not_there_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk.folder / "cache"))
    with pytest.raises(UserError, match=r"no test set gone \(named are koala, sinstruct\)"):
        desk.take("gone_seed_0.json")
    with pytest.raises(UserError, match="no such file"):
        desk.take("koala=gone.json")
    with pytest.raises(UserError, match="alpagasus testsets fetch vicuna"):
        desk.take(f"vicuna={desk.folder / 'koala_seed_0.json'}")


def test_answers_that_were_generated_are_not_thrown_away(desk: Desk) -> None:
    desk.run.make("answers/full", "generate", {}, {}, lambda: Made(details={"finish_reasons": {}}))
    with pytest.raises(UserError, match="full has answers of its own"):
        desk.take("koala_seed_0.json", arm="full")


@pytest.mark.parametrize("arm", ["../up", "a/b", "", ".hidden"])
def test_an_arms_name_is_no_path(desk: Desk, arm: str) -> None:
    with pytest.raises(UserError, match="--arm"):
        desk.take("koala_seed_0.json", arm=arm)


def test_what_was_exported_can_be_imported(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.take("koala_seed_0.json", "sinstruct_seed_0.json")
    desk.take("koala_seed_0.json", model="theirs", arm="other")
    out = desk.folder / "out"
    files = desk.give(out)
    assert [path.name for path in files] == ["koala_seed_0.json", "sinstruct_seed_0.json"]
    assert "sinstruct: prompts without an answer, and so without its key: other 2" in capsys.readouterr().err
    rows = json.loads((out / "sinstruct_seed_0.json").read_text())
    assert rows[0] == {
        "question_id": "s_0",
        "instruction": "Add.",
        "instances": [{"input": "2, 3"}],
        "mine": "Ours 0",
    }
    import_answers(desk.run, desk.recipe, list(map(str, files)), "mine", "again", desk.console)
    texts = [
        {name: [one.text for one in of_set.values()] for name, of_set in answers.items()}
        for answers in (read_committed_answers(desk.run, arm) for arm in ("mine", "again"))
    ]
    assert texts[0] == texts[1]


def test_arms_can_be_chosen_and_a_file_of_others_is_left_alone(desk: Desk) -> None:
    desk.take("koala_seed_0.json")
    desk.take("koala_seed_0.json", model="theirs", arm="other")
    out = desk.folder / "out"
    (path,) = desk.give(out, "other")
    assert "mine" not in json.loads(path.read_text())[0]
    assert desk.give(out, "other") == [path]
    before = path.read_text()
    with pytest.raises(UserError, match="is there and is another file"):
        desk.give(out)
    assert path.read_text() == before
    with pytest.raises(UserError, match="generate --arm nobody"):
        desk.give(out, "nobody")


def test_an_export_of_nothing_is_told(desk: Desk) -> None:
    with pytest.raises(UserError, match="no arm has answers there yet"):
        desk.give(desk.folder / "out")


def test_answers_to_another_version_of_a_set_are_not_put_under_its_prompts(desk: Desk) -> None:
    desk.take("koala_seed_0.json")
    (desk.folder / "koala.jsonl").write_text('{"id": "koala_0", "prompt": "Other?"}\n')
    with pytest.raises(UserError, match="mine answered another koala than the one that is here"):
        desk.give(desk.folder / "out")
    assert not (desk.folder / "out").exists()
