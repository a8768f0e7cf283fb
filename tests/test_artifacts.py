"""The promise of the run directory: work is done once, and what is not finished is not there."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.artifacts import MANIFEST, RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.manifests import Made, Manifest, RowDigest

FOLDER = "things"


@dataclass
class Work:
    """Fills a folder with one file, and counts how often it did."""

    run: RunDirectory
    text: str = "some text"
    file: str = "rows.txt"
    failure: BaseException | None = None
    times: int = field(default=0)

    def __call__(self) -> Made:
        self.times += 1
        self.run.write_text(f"{FOLDER}/{self.file}", self.text)
        if self.failure is not None:
            raise self.failure
        return Made(counts={"rows": 1}, failures={"empty": 2}, details={"why": "ümlaut"}, cost_usd=1.5)


def make(work: Work, settings: dict[str, Any] | None = None, **inputs: Manifest) -> tuple[Manifest, bool]:
    return work.run.make(FOLDER, "thing", settings or {"a": 1}, inputs, work)


def manifest_of(content: str) -> Manifest:
    return Manifest(stage="before", settings_hash="", settings={}, inputs={}, content=content)


def test_work_is_done_once(run: RunDirectory) -> None:
    work = Work(run)
    first, worked = make(work)
    again, worked_again = make(work)
    assert (worked, worked_again, work.times) == (True, False, 1)
    assert again == first == run.manifest(FOLDER)


def test_the_manifest_says_what_was_made(run: RunDirectory) -> None:
    manifest, _ = make(Work(run), before=manifest_of("c0ffee"))
    assert (manifest.stage, manifest.counts, manifest.failures) == ("thing", {"rows": 1}, {"empty": 2})
    assert (manifest.details, manifest.cost_usd) == ({"why": "ümlaut"}, 1.5)
    assert manifest.inputs == {"before": "c0ffee"}
    assert manifest.wall_time_s >= 0
    assert "pyarrow" in manifest.versions


def test_another_process_finds_the_work_done(run: RunDirectory) -> None:
    make(Work(run))
    work = Work(RunDirectory(run.uri))
    assert make(work)[1] is False
    assert work.times == 0


def test_the_order_of_settings_does_not_matter(run: RunDirectory) -> None:
    make(Work(run), {"a": 1, "b": {"c": 2, "d": 3}})
    assert make(Work(run), {"b": {"d": 3, "c": 2}, "a": 1})[1] is False


@pytest.mark.parametrize("changed", [{"a": 2}, {"b": 1}, {"a": 1, "b": None}, {"a": "1"}, {"a": True}])
def test_changed_settings_do_it_again(run: RunDirectory, changed: dict[str, Any]) -> None:
    make(Work(run))
    assert make(Work(run), changed)[1] is True


def test_another_stage_does_it_again(run: RunDirectory) -> None:
    make(Work(run))
    assert run.make(FOLDER, "other", {"a": 1}, {}, Work(run))[1] is True


def test_nothing_of_the_old_artifact_stays(run: RunDirectory) -> None:
    make(Work(run, file="old.txt"))
    make(Work(run, file="new.txt"), {"a": 2})
    assert run.list_files(FOLDER) == [MANIFEST, "new.txt"]


def test_an_inputs_changed_content_does_it_again(run: RunDirectory) -> None:
    make(Work(run), before=manifest_of("old"))
    assert make(Work(run), before=manifest_of("new"))[1] is True
    assert make(Work(run), before=manifest_of("new"))[1] is False


@pytest.mark.parametrize("others", [{}, {"elsewhere": "old"}, {"before": "old", "more": "x"}])
def test_other_inputs_do_it_again(run: RunDirectory, others: dict[str, str]) -> None:
    make(Work(run), before=manifest_of("old"))
    inputs = {name: manifest_of(content) for name, content in others.items()}
    assert make(Work(run), **inputs)[1] is True


def test_an_input_remade_with_the_same_content_changes_nothing(run: RunDirectory) -> None:
    def before(settings: dict[str, int]) -> Manifest:
        def work() -> Made:
            run.write_text("before/rows.txt", "the same")
            return Made(counts=settings)

        return run.make("before", "before", settings, {}, work)[0]

    first, second = before({"speed": 1}), before({"speed": 2})
    assert first != second
    make(Work(run), before=first)
    assert make(Work(run), before=second)[1] is False


@pytest.mark.parametrize(
    ("text", "file", "is_same"),
    [("some text", "rows.txt", True), ("other text", "rows.txt", False), ("some text", "r.txt", False)],
)
def test_content_is_names_and_bytes(run: RunDirectory, text: str, file: str, is_same: bool) -> None:
    first, _ = make(Work(run))
    second, _ = make(Work(run, text=text, file=file), {"a": 2})
    assert (first.content == second.content) is is_same


def test_content_does_not_hang_on_where_the_run_is(tmp_path: Path) -> None:
    one, two = RunDirectory(str(tmp_path / "one")), RunDirectory(str(tmp_path / "two" / "deeper"))
    assert make(Work(one))[0].content == make(Work(two))[0].content


def test_a_name_and_a_text_cannot_pass_for_each_other(run: RunDirectory) -> None:
    run.write_text("a/one", "x")
    run.write_text("a/two", "y")
    run.write_text("b/one", "y")
    run.write_text("b/two", "x")
    assert run.content_of_files("a") != run.content_of_files("b")


@pytest.mark.parametrize(
    "failure", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3), OSError(28, "full")]
)
def test_a_crash_leaves_no_manifest(run: RunDirectory, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        make(Work(run, failure=failure))
    assert run.manifest(FOLDER) is None
    assert make(Work(run))[1] is True


def test_a_crash_while_it_is_done_again_leaves_no_manifest_of_before(run: RunDirectory) -> None:
    make(Work(run))
    with pytest.raises(ValueError, match="broken"):
        make(Work(run, failure=ValueError("broken")), {"a": 2})
    assert run.manifest(FOLDER) is None


def test_a_crashed_artifact_is_required_in_vain(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="broken"):
        make(Work(run, failure=ValueError("broken")))
    with pytest.raises(UserError, match="alpagasus grade"):
        run.require(FOLDER, "grade")


class Killed(BaseException):
    """Stands for the process's end at this place."""


class DyingFilesystem:
    """Passes everything on to the real one, and dies at the first call that `dies` says so of."""

    def __init__(self, real: Any, dies: Callable[[str, str], bool]) -> None:
        self._real, self._dies = real, dies
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, str(args[0])))
            if self._dies(name, str(args[0])):
                raise Killed
            return method(*args, **kwargs)

        return call


def test_clear_removes_the_manifest_first(run: RunDirectory) -> None:
    make(Work(run))
    real = run.filesystem
    run.filesystem = DyingFilesystem(real, lambda name, path: name == "delete_dir")  # type: ignore[assignment]
    with pytest.raises(Killed):
        run.clear(FOLDER)
    run.filesystem = real
    assert run.list_files(FOLDER) == ["rows.txt"]
    assert run.manifest(FOLDER) is None


def test_the_manifest_is_written_last(run: RunDirectory) -> None:
    real = run.filesystem
    recording = DyingFilesystem(real, lambda name, path: False)
    run.filesystem = recording  # type: ignore[assignment]
    make(Work(run))
    written = [path for name, path in recording.calls if name in ("open_output_stream", "move")]
    assert MANIFEST in written[-1]
    assert sum(MANIFEST in path for path in written[:-2]) == 0


def test_a_death_while_the_manifest_is_written_leaves_none(run: RunDirectory) -> None:
    real = run.filesystem
    dying = DyingFilesystem(real, lambda name, path: name == "move" and MANIFEST in path)
    run.filesystem = dying  # type: ignore[assignment]
    with pytest.raises(Killed):
        make(Work(run))
    run.filesystem = real
    assert run.manifest(FOLDER) is None
    assert make(Work(run))[1] is True
    assert run.list_files(FOLDER) == [MANIFEST, "rows.txt"]


def test_clear_makes_an_empty_folder(run: RunDirectory) -> None:
    run.clear(FOLDER)
    run.clear(FOLDER)
    assert run.exists(FOLDER)
    assert run.list_files(FOLDER) == []


@pytest.mark.parametrize(
    "wreck",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-3],
        lambda text: b"null",
        lambda text: b"[]",
        lambda text: b"{}",
        lambda text: b"\xff\xfe\x00",
        lambda text: b"\x00" * len(text),
        lambda text: text.replace(b'"stage"', b'"from_a_later_version"'),
    ],
)
def test_a_wrecked_manifest_is_named(run: RunDirectory, wreck: Callable[[bytes], bytes]) -> None:
    make(Work(run))
    path = Path(run.path(f"{FOLDER}/{MANIFEST}"))
    path.write_bytes(wreck(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        run.manifest(FOLDER)
    assert f"{FOLDER}/{MANIFEST}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["nowhere", "nowhere/deeper", "file.txt"])
def test_where_nothing_is_there_is_no_manifest(run: RunDirectory, folder: str) -> None:
    run.write_text("file.txt", "x")
    assert run.manifest(folder) is None


# Writing.


def test_a_reader_sees_the_old_text_or_the_new(run: RunDirectory) -> None:
    texts = {letter * 300_000 for letter in "ab"}
    run.write_text("texts/text", "a" * 300_000)
    is_done = threading.Event()

    def write() -> None:
        for number in range(60):
            run.write_text("texts/text", sorted(texts)[number % 2])
        is_done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not is_done.is_set():
        seen.add(run.read_text("texts/text"))
    writer.join()
    assert seen <= texts
    assert run.list_files("texts") == ["text"]


def test_two_that_look_at_once_whether_a_folder_can_be_written_to_are_both_told_yes(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, remove = RunDirectory(run.uri), run.remove
    monkeypatch.setattr(run, "remove", lambda name: (other.check(), remove(name)))
    run.check()
    assert run.list_files("") == []


def test_two_that_write_one_file_at_once_do_not_disturb_each_other(run: RunDirectory) -> None:
    real = run.filesystem

    def the_others(name: str, path: str) -> bool:
        if name == "move":
            RunDirectory(run.uri).write_text("texts/text", "the other's")
        return False

    run.filesystem = DyingFilesystem(real, the_others)  # type: ignore[assignment]
    run.write_text("texts/text", "its own")
    assert run.read_text("texts/text") == "its own"


def test_what_a_killed_process_left_half_written_is_none_of_the_files(run: RunDirectory) -> None:
    make(Work(run))
    before = run.content_of_files(FOLDER)
    program = (
        "import os, sys\n"
        "from alpagasus_ray.artifacts import RunDirectory\n"
        "run = RunDirectory(sys.argv[1])\n"
        "class Dies:\n"
        "    def __getattr__(self, name):\n"
        "        return os._exit if name == 'move' else getattr(fs, name)\n"
        "fs, run.filesystem = run.filesystem, Dies()\n"
        "os._exit = lambda *_, leave=os._exit: leave(9)\n"
        "run.write_text('things/rows.txt', 'other')\n"
    )
    assert subprocess.run([sys.executable, "-c", program, run.uri], check=False).returncode == 9
    assert len(list(Path(run.path(FOLDER)).iterdir())) == 3
    assert run.list_files(FOLDER) == [MANIFEST, "rows.txt"]
    assert run.content_of_files(FOLDER) == before


def test_a_write_that_dies_leaves_the_old_text(run: RunDirectory) -> None:
    run.write_text("texts/text", "old")
    real = run.filesystem
    run.filesystem = DyingFilesystem(real, lambda name, path: name == "move")  # type: ignore[assignment]
    with pytest.raises(Killed):
        run.write_text("texts/text", "new")
    run.filesystem = real
    assert sorted(path.name for path in Path(run.path("texts")).iterdir()) == ["text"]
    assert run.read_text("texts/text") == "old"
    run.write_text("texts/text", "new")
    assert run.list_files("texts") == ["text"]


@pytest.mark.parametrize("text", ["", "\r\n", "é\u2028\ufeff", "\0"])
def test_text_is_kept_to_the_letter(run: RunDirectory, text: str) -> None:
    run.write_text("deep/er/text", text)
    assert run.read_text("deep/er/text") == text


def test_a_stream_that_breaks_off_leaves_the_old_file(run: RunDirectory) -> None:
    run.write_text("arms/full/train.json", "old")
    with pytest.raises(ZeroDivisionError), run.writing("arms/full/train.json") as file:
        file.write(b"ne")
        raise ZeroDivisionError
    assert run.read_text("arms/full/train.json") == "old"
    with run.writing("arms/full/train.json") as file:
        file.write(b"ne")
        assert run.read_text("arms/full/train.json") == "old"
        file.write(b"w")
    assert run.read_text("arms/full/train.json") == "new"


def test_tables_are_read_without_the_columns_that_nobody_wants(run: RunDirectory) -> None:
    for part in range(2):
        run.write_table(f"triplets/part-{part}.parquet", pa.table({"id": [part], "text": ["x"]}))
    assert run.read_tables("triplets", ["id"]).to_pydict() == {"id": [0, 1]}
    assert [one.to_pydict() for one in run.each_table("triplets", ["id"])] == [{"id": [0]}, {"id": [1]}]


def test_tables_come_back_in_the_order_of_their_files(run: RunDirectory) -> None:
    for number in (2, 0, 1):
        run.write_table(f"t/part-{number:05d}.parquet", pa.table({"n": [number]}))
    run.write_text("t/rejected.json", "[]")
    assert run.read_tables("t")["n"].to_pylist() == [0, 1, 2]


# Places.


def test_the_ledger_stands_beside_the_runs(tmp_path: Path) -> None:
    assert RunDirectory(str(tmp_path / "runs" / "one")).ledger == f"{tmp_path}/runs/ledger"
    assert RunDirectory(f"file://{tmp_path}/runs/one/").ledger == f"{tmp_path}/runs/ledger"


def test_an_object_store_keeps_artifacts() -> None:
    run = RunDirectory("mock:///bucket/run")
    assert make(Work(run))[1] is True
    assert make(Work(run))[1] is False
    assert run.list_files(FOLDER) == [MANIFEST, "rows.txt"]
    assert run.ledger == "mock:///bucket/ledger"


@dataclass
class Overtaken(Work):
    """While it fills the folder, another command makes it anew."""

    is_ended: bool = True
    """Whether the other command comes to its end as well."""

    def __call__(self) -> Made:
        made = super().__call__()
        other = Work(self.run, file="other.txt", failure=None if self.is_ended else KeyboardInterrupt())
        with suppress(KeyboardInterrupt):
            make(other, {"a": 2})
        return made


@pytest.mark.parametrize("is_ended", [True, False])
def test_two_commands_at_one_folder_of_an_object_store_commit_no_mixture(is_ended: bool) -> None:
    run = RunDirectory("mock:///bucket/run")
    with pytest.raises(UserError, match="another command has begun to make it anew"):
        make(Overtaken(run, is_ended=is_ended))
    there = run.manifest(FOLDER)
    assert there == (make(Work(run), {"a": 2})[0] if is_ended else None), "it is the other command's"


def test_a_manifest_that_came_too_late_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other command clears the folder between the last look and the writing of the manifest."""
    run = RunDirectory("mock:///bucket/run")
    write, number = run.write_text, itertools.count()

    def late(relative: str, text: str) -> None:
        if relative.endswith(MANIFEST) and next(number) == 0:
            with suppress(KeyboardInterrupt):
                make(Work(run, failure=KeyboardInterrupt()), {"a": 2})
        write(relative, text)

    monkeypatch.setattr(run, "write_text", late)
    with pytest.raises(UserError, match="another command has begun to make it anew"):
        make(Work(run))
    assert run.manifest(FOLDER) is None


@pytest.mark.parametrize("uri", ["gopher://host/run", "://", "nothing://"])
def test_what_cannot_be_opened_is_the_users_to_mend(uri: str) -> None:
    with pytest.raises(UserError, match="--run-dir"):
        RunDirectory(uri)


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDirectory("~/run").child_uri("x") == str(tmp_path / "run" / "x")


ODD = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["..", ".", "../..", "/etc/passwd", "meta-llama/Llama-3-8B", "a\\b", "a\0b", "a\nb", "", " ", "C:", "~"]
)


@settings(deadline=None, derandomize=True)
@given(ODD, ODD)
def test_no_name_leaves_its_folder(rubric: str, judge: str) -> None:
    for path in (RunDirectory.reviews(rubric, judge), RunDirectory.verdicts("a", "b", judge)):
        folder, name = path.split("/")
        assert folder in ("reviews", "verdicts")
        assert name not in ("", ".", "..")
        assert not set(name) & set("\0\n\\ ")


@pytest.mark.parametrize("judge", ["meta-llama/Llama-3", "..", "../../../etc", "", "模型", "a b:c"])
def test_an_oddly_named_judges_reviews_are_kept(run: RunDirectory, judge: str) -> None:
    folder = run.reviews("accuracy", judge)
    manifest, _ = run.make(folder, "grade", {}, {}, lambda: Made(content="x"))
    assert run.manifest(folder) == manifest
    assert Path(run.path(folder)).resolve().parent == Path(run.root) / "reviews"


def test_readable_names_stay_readable() -> None:
    assert RunDirectory.reviews("accuracy", "gpt-3.5-turbo-0301") == "reviews/accuracy--gpt-3.5-turbo-0301"
    assert RunDirectory.verdicts("filtered", "full", "gpt-4") == "verdicts/filtered--vs--full--gpt-4"


# The digest of rows.


VALUES = st.none() | st.text(max_size=3) | st.integers(-2, 2) | st.sampled_from([0.5, 4.5])
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2), max_size=6)


def digest(*parts: list[dict[str, Any]]) -> str:
    made = RowDigest()
    for part in parts:
        made.add(part)
    return made.hexdigest()


@settings(deadline=None, derandomize=True)
@given(ROWS, st.randoms(), st.integers(0, 6))
def test_order_and_split_do_not_change_the_digest(
    rows: list[dict[str, Any]], r: random.Random, at: int
) -> None:
    shuffled = r.sample(rows, len(rows))
    assert digest(rows) == digest(shuffled[:at], shuffled[at:])


@settings(deadline=None, derandomize=True)
@given(ROWS, ROWS)
def test_the_digest_tells_sets_of_rows_apart(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    def counted(rows: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(row, sort_keys=True) for row in rows)

    assert (digest(one) == digest(two)) is (counted(one) == counted(two))


def test_a_row_that_stands_twice_counts_twice() -> None:
    row = {"id": "x"}
    assert len({digest(), digest([row]), digest([row, row]), digest([row, row, row])}) == 4


def test_the_order_of_a_rows_keys_does_not_matter() -> None:
    assert digest([{"a": 1, "b": 2}]) == digest([{"b": 2, "a": 1}])


def test_a_row_with_half_a_character_has_a_digest() -> None:
    assert digest([{"text": "\ud83d"}]) != digest([{"text": "\ud83c"}])
