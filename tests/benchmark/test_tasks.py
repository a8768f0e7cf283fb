"""Names and files are looked up in the real lm-evaluation-harness, and nothing is fetched."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray.benchmark.published import BENCHMARKS
from alpagasus_ray.benchmark.tasks import Benchmark, find_benchmarks
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_benchmark_tasks import BenchmarkSettings
from tests.benchmark.local_tasks import write_tasks


def find(*tasks: str | Path, **settings: Any) -> list[Benchmark]:
    return find_benchmarks(BenchmarkSettings(tasks=tuple(map(str, tasks)), **settings))


def complaint(*tasks: str | Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        find(*tasks, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_published_name_is_a_task_of_lm_evals() -> None:
    found = find(*BENCHMARKS, allow_code=True)
    assert [one.name for one in found] == list(BENCHMARKS)
    assert [one.shots for one in found] == [one.shots for one in BENCHMARKS.values()]
    assert [one.name for one in found if one.runs_code] == ["humaneval"]
    assert len({one.content for one in found}) == len(found)


def test_code_is_run_only_where_it_is_allowed() -> None:
    said = complaint("arc", "humaneval")
    assert said.startswith("humaneval runs code that the model writes")
    assert "--allow-code" in said


def test_a_group_of_ones_own_that_holds_a_task_with_code_is_one_too(tmp_path: Path) -> None:
    group = tmp_path / "mine.yaml"
    group.write_text(
        "group: mine\ntask: [arc_challenge, humaneval]\naggregate_metric_list: [{metric: acc}]\n"
    )
    assert complaint(group).startswith("mine runs code that the model writes")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mmlo", 'there is no benchmark mmlo. Did you mean "mmlu"?'),
        ("arc_chalenge", 'there is no benchmark arc_chalenge. Did you mean "arc_challenge"?'),
        ("zzzzzz", "there is no benchmark zzzzzz. Known: arc, bbh, drop,"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(name: str, hint: str) -> None:
    assert complaint("mmlu", name).startswith(hint)


def test_any_task_of_lm_evals_may_be_named_with_shots_of_its_own_or_others() -> None:
    assert [one.shots for one in find("piqa")] == [None]
    (few,) = find("arc", shots={"arc": 3})
    assert few.shots == 3


def test_shots_for_what_is_not_done_are_an_error() -> None:
    assert complaint("arc", shots={"arcc": 3}) == (
        'benchmark.shots: arcc is none of the benchmarks. Did you mean "arc"?'
    )


def test_what_stands_for_several_tasks_names_them() -> None:
    assert complaint("ai2_arc") == (
        "ai2_arc stands for several benchmarks: name those that you want: arc_challenge, arc_easy"
    )
    assert complaint("openllm").startswith("openllm is a group with no figure of its own")


def test_a_file_of_ones_own_is_a_benchmark_by_the_name_in_it(tmp_path: Path) -> None:
    files = write_tasks(tmp_path)
    sums, words = find(files["sums"], files["words"])
    assert (sums.name, sums.task, sums.folder) == ("sums", str(files["sums"]), str(tmp_path))
    assert (words.metric, words.runs_code) == (None, False)


def test_a_folder_of_ones_own_adds_names(tmp_path: Path) -> None:
    write_tasks(tmp_path)
    (sums,) = find("sums", include_path=str(tmp_path))
    assert (sums.task, sums.folder) == ("sums", str(tmp_path))
    assert "no such folder" in complaint("sums", include_path=str(tmp_path / "other"))


def test_two_of_one_name_are_an_error(tmp_path: Path) -> None:
    one, other = write_tasks(tmp_path / "a"), write_tasks(tmp_path / "b")
    assert complaint(one["sums"], other["sums"]).startswith("two benchmarks are called sums")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("- a\n- b\n", "is no task of lm-evaluation-harness"),
        ("task: [", "is no task of lm-evaluation-harness"),
        ("include: not_there.yaml\ntask: x\n", "is no task of lm-evaluation-harness"),
        ("dataset_path: json\n", "has its name under `task:`"),
        ("group: g\naggregate_metric_list: [{metric: acc}]\ntask: [arc_esy]\n", 'Did you mean "arc_easy"?'),
        ("group: g\ntask: [arc_easy]\n", "is a group with no figure of its own"),
    ],
)
def test_a_file_that_is_no_task_is_one_clear_line(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    assert said in complaint(file)


def test_a_data_file_that_is_not_there_is_told_before_anything_is_served(tmp_path: Path) -> None:
    files = write_tasks(tmp_path)
    (tmp_path / "sums.jsonl").unlink()
    assert "sums: its data file sums.jsonl is not there" in complaint(files["sums"])


def test_data_files_may_lie_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_tasks(tmp_path / "tasks")
    here = tmp_path / "data"
    here.mkdir()
    shutil.move(tmp_path / "tasks" / "sums.jsonl", here / "sums.jsonl")
    monkeypatch.chdir(here)
    assert find(files["sums"])[0].folder == str(here)


def test_an_edited_task_is_another_one_and_a_moved_one_is_not(tmp_path: Path) -> None:
    before = find(write_tasks(tmp_path / "a")["sums"])[0].content
    moved = write_tasks(tmp_path / "b")["sums"]
    assert find(moved)[0].content == before
    with (tmp_path / "b" / "sums.jsonl").open("a") as file:
        file.write('{"question": "9 + 9 =", "choices": ["18", "19"], "label": 0}\n')
    assert find(moved)[0].content != before


def test_the_code_beside_a_task_is_part_of_it_and_is_not_run(tmp_path: Path) -> None:
    file = write_tasks(tmp_path)["words"]
    with file.open("a") as text:
        text.write("process_results: !function scoring.exact\n")
    (tmp_path / "scoring.py").write_text("raise SystemExit('this was run')\n")
    before = find(file)[0].content
    (tmp_path / "scoring.py").write_text("raise SystemExit('this was run, too')\n")
    assert find(file)[0].content != before


def test_without_the_library_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert "pip install '.[benchmark]' in the checkout" in complaint("mmlu")


def test_where_no_benchmark_is_named_the_library_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert find() == []
