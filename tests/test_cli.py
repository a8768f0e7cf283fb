"""Bad input at the command line: one clear line, exit status 2, before Ray starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from alpagasus_ray import __version__
from alpagasus_ray.recipe_files import load_recipe, recipe_names
from tests.loopback import LoopbackServer, error
from tests.shell import Shell, complaint

GOOD_ROWS = [{"instruction": "Name a fruit.", "input": "", "output": "An apple."}]

WHOLE = """
corpus: {data: good.json}
grade: {judge: answer-key}
arms:
  full: {selector: full}
  random: {selector: random, same_size_as: full}
train: {model: ./model}
generate: {testsets: [prompts.jsonl]}
compare: {judge: answer-key, pairs: [[random, full]]}
"""
"""A recipe in which everything is there."""
OWN_RUBRIC = "template: 'Rate the style of {output}'\nscale: [1, 10]\nreader: {pattern: 'Style: ([0-9]+)'}\n"


@pytest.fixture(scope="module")
def ready() -> Iterator[Shell]:
    """A shell that has loaded what takes seconds."""
    shell = Shell("alpagasus_ray.pipeline", "alpagasus_ray.judge.pool", "alpagasus_ray.llm.openai_chat")
    yield shell
    shell.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with some files."""
    (tmp_path / "good.json").write_text(json.dumps(GOOD_ROWS))
    (tmp_path / "columns.json").write_text(json.dumps([{"prompt": "a", "completion": "b"}]))
    (tmp_path / "broken.json").write_text('[{"instruction": "a",\n oops')
    (tmp_path / "bad.yaml").write_text("grade:\n  model: [\n")
    (tmp_path / "wrong.yaml").write_text("grade:\n  rubrik: accuracy\n")
    (tmp_path / "own.yaml").write_text(OWN_RUBRIC)
    (tmp_path / "typo.yaml").write_text(OWN_RUBRIC.replace("{output}", "{outptu}"))
    (tmp_path / "arms.yaml").write_text("arms:\n  filtered: {selector: threshold, threshold: 4.5}\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hi?"}\n')
    (tmp_path / "whole.yaml").write_text(WHOLE)
    model = tmp_path / "model"
    model.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (model / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer_config.json", "tokenizer.json", "generation_config.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grade", "--recipe", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--recipe", "dmo"], '"demo"'),
        (["grade", "--recipe", "bad.yaml"], "bad.yaml, line"),
        (["grade", "--recipe", "wrong.yaml"], 'grade.rubrik. Did you mean "rubric"?'),
        (["grade", "--set", "grade.rubrik=accuracy"], 'grade.rubrik. Did you mean "rubric"?'),
        (["grade", "--set", "grade"], "section.key=value"),
        (["grade", "--rubric", "novelty"], "grade.rubric"),
        (["grade", "--rubric", "accuracy,helpfullness"], '"helpfulness"'),
        (["grade", "--rubric", "accuracy,"], "--rubric: a name is missing beside a comma"),
        (["generate", "--arm", "a", "--testsets", ""], "--testsets: a name is missing"),
        (["generate", "--arm", "../models", "--base-url", "http://127.0.0.1:9/v1"], '"../models" is no name'),
        (["answers", "export", "--arms", "a,.."], '".." is no name'),
        (["benchmark", "--arms", "a,b/c"], '"b/c" is no name'),
        (["grade", "--rubric", "missing.yaml"], "missing.yaml: no such file"),
        (["grade", "--rubric", "typo.yaml"], '{outptu}. Did you mean "output"?'),
        (["grade", "--rubric", "bad.yaml"], "bad.yaml, line"),
        (["grade", "--rubric", "own.yaml", "--reader", "original"], "grade.reader is original"),
        (["select", "--arm", "a", "--full", "--rubric", "accuracy"], "does not take rubric"),
        (["grade", "--max-concurrency", "0"], "grade.max_concurrency"),
        (["grade", "--limit", "0"], "corpus.limit"),
        (["select", "--arm", "a/b", "--full"], "a/b"),
        (["select", "--arm", "a", "--top-k", "0"], "arms.a.k"),
        (["select", "--arm", "a", "--threshold", "nan"], "threshold"),
        (["select", "--arm", "a", "--keep-share", "0"], "arms.a.keep_share"),
        (["select", "--arm", "a", "--keep-share", "17.75"], "arms.a.keep_share"),
        (["train", "--arm", "a", "--strategy", "ddp"], "train.strategy"),
        (
            ["serve", "x", "--set", "serve.engine.tensor_parallel_size=two"],
            "tensor_parallel_size is a whole number",
        ),
        (
            ["serve", "x", "--set", "serve.engine.pipeline_parallel_size=0"],
            "pipeline_parallel_size is a whole",
        ),
        (["serve", "x", "--set", "serve.engine.max_num_batched_tokens=2k"], "max_num_batched_tokens is a"),
        (["serve", "x", "--set", "serve.engine.max_model_len=auto"], "max_model_len is a whole number"),
        (["serve", "x", "--set", "serve.engine.override_generation_config=x"], "config is a mapping"),
        (
            ["serve", "x", "--set", "serve.engine.override_generation_config={max_new_tokens: null}"],
            "override_generation_config.max_new_tokens is a whole number",
        ),
        (["mt-bench", "--arms", "a,../x"], '"../x" is no name'),
        (["select", "--arm", "a", "--random-as", "../x"], '"../x" is no name'),
        (["compare", "--baseline", "../x"], '"../x" is no name'),
        (["train", "--arm", "a", "--gpu", "h100"], "--dry-run"),
        (["train", "--arm", "a", "--json"], "--dry-run"),
        (["train", "--arm", "a", "--dry-run", "--model", "model", "--gpu", "h10"], '"h100"'),
        (["train", "--arm", "a", "--dry-run", "--model", "model"], "hidden_size is missing"),
        (["compare", "--a", "empty"], "--b"),
        (["grade", "--run-dir", "nothing://x"], "--run-dir"),
        (["grade", "--run-dir", "good.json"], "good.json"),
        (["grade", "--run-dir", "good.json/deeper"], "good.json"),
        (["grade", "--data", "missing.json"], "missing.json"),
        (["grade", "--wrong-flag"], "--wrong-flag"),
        (["grade", "--limit", "many"], "--limit"),
        (["grade", "--data"], "--data"),
        (["train"], "--arm"),
        (["grde"], "grade"),
        ([], "COMMAND"),
        (["select", "--arm", "a", "--full", "--top-k", "3"], "--top-k"),
    ],
)
def test_a_slip_is_told_without_a_wait(shell: Shell, folder: Path, arguments: list[str], says: str) -> None:
    done = shell.run(folder, *arguments)
    assert says in complaint(folder, done)
    assert set(done.loaded) & {"torch", "transformers", "vllm"} == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["grade", "--recipe", "dmo"],
        ["grade", "--data", "missing.json"],
        ["grade", "--data", "columns.json"],
        ["select", "--recipe", "arms.yaml", "--arm", "filterd"],
        ["generate", "--arm", "filtered", "--testsets", "missing.jsonl"],
        ["run", "--recipe", "arms.yaml", "--set", "corpus.data=missing.json"],
        ["--version"],
    ],
)
def test_what_needs_no_ray_does_not_load_it(shell: Shell, folder: Path, arguments: list[str]) -> None:
    assert shell.run(folder, *arguments).loaded == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grade"], "--data"),
        (["grade", "--data", "missing.json"], "missing.json: no such file"),
        (["grade", "--data", "empty"], "empty"),
        (["grade", "--data", "columns.json"], "(alpaca); instruction and response (dolly)"),
        (["grade", "--data", "broken.json"], "broken.json, line 2, column 2"),
        (["grade", "--data", "good.json"], "OPENAI_API_KEY"),
        (["grade", "--data", "good.json", "--api-key-env", "MY_KEY"], "MY_KEY"),
        (["grade", "--data", "good.json", "--judge", "answer-key"], "toy world"),
        (["grade", "--data", "good.json", "--judge", "answer-key", "--rubric", "own.yaml"], "toy world"),
        (
            ["grade", "--data", "good.json", "--judge", "answer-key", "--set", "grade.delimit=true"],
            "toy world",
        ),
        (["select", "--recipe", "arms.yaml", "--arm", "filtered", "--rubric", "own"], "by a rubric own"),
        (["grade", "--data", "good.json", "--import-reviews", "gone.json"], "gone.json: no such file"),
        (
            ["grade", "--data", "good.json", "--import-reviews", "broken.json"],
            "broken.json, line 2, column 2",
        ),
        (
            ["grade", "--data", "good.json", "--import-reviews", "columns.json"],
            "none of its 1 rows is a review",
        ),
        (
            ["grade", "--data", "good.json", "--judge", "openai", "--base-url", "http://127.0.0.1:9/v1"],
            "127.0.0.1:9",
        ),
        (["select", "--recipe", "arms.yaml", "--arm", "filterd"], '"filtered"'),
        (["select", "--recipe", "arms.yaml", "--arm", "filterd", "--seed", "3"], '"filtered"'),
        (["select", "--recipe", "arms.yaml", "--arm", "filtered"], "alpagasus grade"),
        (["select", "--arm", "filtered"], "filtered"),
        (["train", "--arm", "nobody", "--model", "./model"], "nobody"),
        (["generate", "--arm", "filtered"], "--testsets"),
        (["generate", "--arm", "filtered", "--testsets", "missing.jsonl"], "missing.jsonl"),
        (["generate", "--arm", "filtered", "--testsets", "prompts.jsonl"], "train --arm filtered"),
        (["compare", "--a", "empty", "--b", "empty", "--out", "v"], "empty"),
        (["compare", "--a", "missing", "--b", "empty", "--out", "v"], "missing"),
        (["compare"], "generate --arm"),
        (["serve", "missing"], "missing"),
        (["serve", "empty"], "empty"),
        (["run"], "arms"),
    ],
)
def test_what_cannot_be_done_is_told_before_ray_starts(
    ready: Shell, folder: Path, arguments: list[str], says: str
) -> None:
    assert says in complaint(folder, ready.run(folder, *arguments))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("arms.random={selector: random, same_size_as: random}", "random -> random"),
        ("arms.random.same_size_as=ful", '"full"'),
        ("compare.pairs=[[random, ful]]", '"full"'),
        ("grade.judge=openai", "OPENAI_API_KEY"),
        ("grade.import_reviews=gone.json", "gone.json"),
        ("compare.judge=openai", "OPENAI_API_KEY"),
        ("grade.rubric=typo.yaml", "{outptu}"),
        (
            "arms.best={selector: top-k, k: 1, rubric: helpfulness}",
            "nothing is graded by a rubric helpfulness",
        ),
        ("train.model=./nowhere", "./nowhere"),
        ("train.model=null", "--model"),
        ("corpus.data=missing.json", "missing.json"),
        ("corpus.data=null", "--data"),
        ("generate.testsets=[missing.jsonl]", "missing.jsonl"),
        ("generate.testsets=[]", "testsets"),
        ("generate.api_key_env=NO_SUCH_KEY", "NO_SUCH_KEY"),
        ("serve.max_answer_tokens=1", "is less than generate.max_new_tokens"),
    ],
)
def test_a_whole_run_is_checked_before_its_first_stage(
    ready: Shell, folder: Path, wrong: str, says: str
) -> None:
    """What would stop the last stage after hours is told at once."""
    by_score = "arms.best={selector: top-k, k: 1}"  # so that grading is wanted
    done = ready.run(folder, "run", "--recipe", "whole.yaml", "--set", by_score, "--set", wrong)
    assert says in complaint(folder, done)
    assert not (folder / "runs/default/triplets").exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [([], "--model"), (["--model", "./nowhere"], "./nowhere"), (["--model", "./empty"], "config.json")],
)
def test_a_base_model_that_is_none_is_told(ready: Shell, folder: Path, model: list[str], says: str) -> None:
    ready.run(folder, "grade", "--data", "good.json")  # commits the corpus, and then misses the key
    assert ready.run(folder, "select", "--arm", "full", "--full").code == 0
    assert says in complaint(folder, ready.run(folder, "train", "--arm", "full", *model))


def test_a_port_in_use_is_told(ready: Shell, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in complaint(folder, ready.run(folder, "serve", "model", "--port", port))


def test_a_key_that_is_refused_is_told_and_not_shown(
    ready: Shell, folder: Path, endpoint: LoopbackServer
) -> None:
    endpoint.api_key = "another"
    url = ["--base-url", endpoint.base_url]
    text = complaint(
        folder, ready.run(folder, "grade", "--data", "good.json", *url, OPENAI_API_KEY="sk-secret")
    )
    assert "Incorrect API key provided." in text
    written = [path for path in folder.rglob("*") if path.is_file() and b"sk-secret" in path.read_bytes()]
    assert written == []
    assert endpoint.asked.total() == 0


def test_an_unknown_judge_is_told_in_the_endpoints_words(
    ready: Shell, folder: Path, endpoint: LoopbackServer
) -> None:
    endpoint.fault = lambda body, times: error(404, "The model `gpt-5` does not exist.", "model_not_found")
    url = ["--base-url", endpoint.base_url]
    text = complaint(folder, ready.run(folder, "grade", "--data", "good.json", *url, "--model", "gpt-5"))
    assert "The model `gpt-5` does not exist." in text
    assert endpoint.asked.total() == 1


def test_a_name_with_brackets_is_told_as_it_stands(ready: Shell, folder: Path) -> None:
    assert "[bold]:smile:.json" in complaint(
        folder, ready.run(folder, "grade", "--data", "[bold]:smile:.json")
    )


# What goes well.


def test_an_estimate_leaves_no_trace_and_asks_nobody(
    shell: Shell, folder: Path, endpoint: LoopbackServer
) -> None:
    """No key, no Ray, no log, no recipe: it may be looked at before anything is decided."""
    before = {path for path in folder.rglob("*") if path.suffix != ".txt"}
    judge = ["--judge", "openai", "--model", "gpt-4o-mini", "--requests-per-minute", "30"]
    done = shell.run(folder, "estimate", "--data", "good.json", *judge)
    assert (done.code, done.error, done.loaded) == (0, "", [])
    assert "to pay for         1\n" in done.out
    assert "$0.15 in" in done.out
    assert "30 requests a minute" in done.out
    own = shell.run(folder, "estimate", "--data", "good.json", "--base-url", endpoint.base_url, "--json")
    assert json.loads(own.out)["grade"]["cost_usd"] is None
    assert endpoint.asked.total() == 0
    after = {path for path in folder.rglob("*") if path.suffix != ".txt"}
    assert after - before == {folder / "loaded.json"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "missing.json"], "missing.json: no such file"),
        ([], "--data"),
        (["--data", "good.json", "--requests-per-minute", "0"], "requests_per_minute"),
        (["--data", "good.json", "--set", "grade.tokenizer=empty"], "tokenizer.json"),
        (["--data", "good.json", "--set", "generate.testsets=[missing.jsonl]"], "missing.jsonl"),
    ],
)
def test_an_estimate_that_cannot_be_made_is_told(
    shell: Shell, folder: Path, arguments: list[str], says: str
) -> None:
    assert says in complaint(folder, shell.run(folder, "estimate", *arguments))


def test_a_rubric_from_a_file_is_asked_from_any_folder(
    ready: Shell, folder: Path, endpoint: LoopbackServer
) -> None:
    """The first request goes out before Ray is to be started."""
    url = ["--base-url", endpoint.base_url]
    ready.run(folder, "grade", "--data", "good.json", "--rubric", "own.yaml", *url)
    assert list(endpoint.asked) == ["Rate the style of An apple."]
    (folder / "started.txt").unlink()

    run_dir = str(folder / "runs/default")
    ready.run(folder / "empty", "grade", "--run-dir", run_dir, "--data", str(folder / "good.json"))
    assert (folder / "empty/started.txt").exists(), "the stored recipe does not hold in another folder"
    assert endpoint.asked.total() == 1, "the reply is in the ledger"

    (folder / "own.yaml").write_text(OWN_RUBRIC.replace("style", "tone"))
    ready.run(folder, "grade", "--data", "good.json", "--rubric", "own.yaml", *url)
    assert list(endpoint.asked)[1:] == ["Rate the tone of An apple."]


@pytest.mark.parametrize("arm", ["full", "v1.5", "top-4.5", "a_b"])
def test_flags_make_an_arm_that_the_run_keeps(ready: Shell, folder: Path, arm: str) -> None:
    """Every name that the recipe allows: a dot is no border between sections here."""
    ready.run(folder, "grade", "--data", "good.json")  # commits the corpus, and then misses the key
    done = ready.run(folder, "select", "--arm", arm, "--full")
    assert (done.code, done.error.count("\n")) == (0, 1), done.error
    path = folder / done.out.strip()
    assert json.loads(path.read_text()) == GOOD_ROWS
    assert path.parent.name == arm
    stored = load_recipe(None, stored=(folder / "runs/default/recipe.yaml").read_text())
    assert stored.arms[arm].selector == "full"


def test_all_rows_are_an_arm_without_a_judge(shell: Shell, folder: Path) -> None:
    done = shell.run(folder, "select", "--data", "good.json", "--arm", "all", "--full")
    assert done.code == 0, done.error
    assert json.loads((folder / done.out.strip()).read_text()) == GOOD_ROWS
    other = shell.run(folder, "select", "--data", "missing.json", "--arm", "none", "--full")
    assert (other.code, "missing.json" in other.error) == (2, True)


def test_imported_reviews_need_no_key_and_an_arm_takes_its_share_of_them(shell: Shell, folder: Path) -> None:
    reviews = folder / "reviews.json"
    reviews.write_text(json.dumps([{"triplet": GOOD_ROWS[0], "review": "4.5\nRight."}]))
    data = ["--data", "good.json"]
    done = shell.run(folder, "grade", *data, "--import-reviews", "reviews.json", "--model", "chatgpt")
    assert (done.code, done.out, done.loaded) == (0, "runs/default/reviews/accuracy--chatgpt\n", []), (
        done.error
    )
    done = shell.run(folder, "select", "--arm", "best", "--keep-share", "0.5")
    assert json.loads((folder / done.out.strip()).read_text()) == GOOD_ROWS
    assert "score 4.5 or more, 100.00 % of the scored (50 % wanted)" in done.error


def test_imported_reviews_are_not_taken_for_another_judges(shell: Shell, folder: Path) -> None:
    reviews = folder / "reviews.json"
    reviews.write_text(json.dumps([{"triplet": GOOD_ROWS[0], "review": "4.5\nRight."}]))
    data = ["--data", "good.json"]
    shell.run(folder, "grade", *data, "--import-reviews", "reviews.json", "--model", "chatgpt")
    assert shell.run(folder, "grade").code == 0, "the run knows its reviews"
    assert "OPENAI_API_KEY" in complaint(folder, shell.run(folder, "grade", "--model", "gpt-4o"))


def test_a_dry_run_shows_the_plan_and_does_nothing(ready: Shell, folder: Path) -> None:
    done = ready.run(folder, "run", "--recipe", "demo", "--run-dir", "here", "--dry-run")
    assert (done.code, done.error) == (0, "")
    for stage in ("corpus", "grade", "select", "train", "serve", "generate", "compare", "report"):
        assert stage in done.out
    assert {path.name for path in (folder / "here").iterdir()} <= {"logs"}


def test_a_recipe_in_which_nobody_looks_at_scores_grades_nothing(ready: Shell, folder: Path) -> None:
    recipe = ("--recipe", "whole.yaml", "--set", "grade={judge: openai, model: gpt-4o-mini}")
    done = ready.run(folder, "run", *recipe, "--dry-run")
    assert (done.code, done.error) == (0, ""), "and no key is asked for"
    assert "\ngrade  " not in done.out
    by_score = ("--set", "arms.best={selector: top-k, k: 1}")
    assert "OPENAI_API_KEY" in complaint(folder, ready.run(folder, "run", *recipe, *by_score, "--dry-run"))
    (folder / "runs" / "default").mkdir(parents=True, exist_ok=True)
    whole = WHOLE.replace("judge: answer-key}\narms", "judge: answer-key, model: judge}\narms")
    (folder / "runs" / "default" / "recipe.yaml").write_text(whole)
    assert "\ngrade  " not in shell_status(ready, folder)
    (folder / "runs" / "default" / "reviews" / "accuracy--judge").mkdir(parents=True)
    assert "\ngrade  " in shell_status(ready, folder), "of what is there, somebody wants to know"


def shell_status(shell: Shell, folder: Path) -> str:
    done = shell.run(folder, "status")
    assert done.code == 0, done.error
    return done.out


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        ((), "--run-dir"),
        (("--run-dir", "runs/mine"), "--run-dir runs/mine"),
        (("--run-dir", "{sent}/mine"), "--run-dir"),
        (("--run-dir", "{folder}/mine", "--set", "ledger=replies"), "ledger replies"),
    ],
)
def test_a_job_writes_nothing_into_the_folder_that_goes_with_it(
    ready: Shell, folder: Path, given: tuple[str, ...], lost: str
) -> None:
    sent = folder / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    sent.mkdir(parents=True)
    (sent / "good.json").write_text((folder / "good.json").read_text())
    words = [word.format(sent=sent, folder=folder) for word in given]
    told = complaint(sent, ready.run(sent, "grade", "--data", "good.json", "--judge", "answer-key", *words))
    assert lost in told and "name a folder that all nodes share by its whole path" in told
    assert not (sent / "runs").exists()
    assert ready.run(sent, "estimate", "--data", "good.json", *words).code == 0


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "demo"])
def test_a_shipped_recipe_is_planned_with_data_and_a_model_of_ones_own(
    ready: Shell, folder: Path, name: str
) -> None:
    own = ("corpus.data=good.json", "train.model=./model", "generate.testsets=[prompts.jsonl]")
    flags = [word for setting in own for word in ("--set", setting)]
    done = ready.run(folder, "run", "--recipe", name, "--dry-run", *flags, OPENAI_API_KEY="sk-test")
    assert (done.code, done.error) == (0, "")
    for said in ("filtered: threshold", "random: random", "filtered against full", "gpt-4-0613"):
        assert said in done.out


def test_a_training_is_planned_without_ray_and_leaves_no_trace(shell: Shell, folder: Path) -> None:
    (folder / "reviews.json").write_text(json.dumps([{"triplet": GOOD_ROWS[0], "review": "4.5\nRight."}]))
    shell.run(
        folder, "grade", "--data", "good.json", "--import-reviews", "reviews.json", "--model", "chatgpt"
    )
    shell.run(folder, "select", "--arm", "a", "--full")
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 64)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    (folder / "model" / "config.json").write_text(json.dumps({**sizes, **layers}))
    tokenizer = Tokenizer(WordLevel({"<unk>": 0, "</s>": 1}, "<unk>"))
    tokenizer.save(str(folder / "model" / "tokenizer.json"))
    (folder / "model" / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    before = {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
    plan = ("train", "--arm", "a", "--dry-run", "--model", "model", "--gpu", "l4")
    plan += ("--set", "train.global_batch_size=1")
    done = shell.run(folder, *plan)
    assert (done.code, done.error, done.loaded) == (0, "", [])
    assert "2 x l4" in done.out and "memory per GPU" in done.out
    told = json.loads(shell.run(folder, *plan, "--json", "--gpu-usd-per-hour", "9").out)
    assert (told["rows"], told["gpu"]["usd_per_hour"]) == (1, 9)
    after = {path: path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()}
    assert after == before


def test_help_is_there_for_every_command(shell: Shell, folder: Path) -> None:
    assert shell.run(folder, "--version").out.strip() == __version__
    text = shell.run(folder, "--help").out
    for command in ("demo", "run", "grade", "select", "train", "serve", "generate", "compare", "report"):
        assert command in text
        done = shell.run(folder, command, "--help")
        assert (done.code, done.loaded) == (0, [])
        assert "--run-dir" in done.out


def started(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    root = str(Path(__file__).parents[1])
    options: dict[str, Any] = {"cwd": folder, "env": {**env, "PYTHONPATH": root}, "timeout": 300}
    return subprocess.run(
        [sys.executable, "-m", "alpagasus_ray.cli", *arguments], capture_output=True, text=True, **options
    )


def test_as_a_user_starts_it(folder: Path) -> None:
    done = started(["grade", "--data", "missing.json"], folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "alpagasus: --data missing.json: no such file\n"
