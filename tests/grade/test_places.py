"""A few rows drawn from the triplets' files, whose ids pass by one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console
from alpagasus_ray.corpus import committing
from alpagasus_ray.corpus.committing import commit_corpus
from alpagasus_ray.grade.pilot import pilot_ids, pilot_rows
from alpagasus_ray.grade.places import sampled_rows
from alpagasus_ray.recipe import CorpusSettings, GuardSettings
from tests.grading_runs import made_rows

FIELDS = ("instruction", "output")


@pytest.fixture
def many(
    run: RunDirectory, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunDirectory:
    """Ninety rows in ten files, and ten that stand twice."""
    monkeypatch.setattr(committing, "PART_ROWS", 10)
    data = tmp_path / "data.json"
    data.write_text(json.dumps([*made_rows(90), *made_rows(10)]))
    commit_corpus(run, CorpusSettings(data=str(data)), console)
    return run


def test_the_pilots_rows_are_the_same_drawn_from_files(many: RunDirectory) -> None:
    settings = GuardSettings(pilot_rows=40)
    table = many.read_tables(many.triplets, ["id", *FIELDS])
    rows = sampled_rows(many, FIELDS, lambda ids: pilot_ids(ids, settings))
    assert rows.num_rows == 40
    assert rows.to_pylist() == pilot_rows(table.slice(0, 90), settings).to_pylist()


def test_only_files_with_drawn_rows_are_read_for_their_texts(many: RunDirectory) -> None:
    def last_two(ids: object) -> list[str]:
        assert isinstance(ids, type(_ for _ in ())), "they come one by one"
        return list(ids)[:-3:-1]

    rows = sampled_rows(many, FIELDS, last_two)
    assert rows["instruction"].to_pylist() == ["Name number <89>.", "Name number <88>."]


def test_nothing_drawn_is_no_rows(many: RunDirectory) -> None:
    rows = sampled_rows(many, FIELDS, lambda ids: [])
    assert (rows.num_rows, rows.column_names) == (0, ["id", *FIELDS])
