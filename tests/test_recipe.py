"""Recipes: what a user may write, what wins, and what is said when it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import ArmSettings, Recipe, Section
from alpagasus_ray.recipe_files import load_recipe, parse_recipe, recipe_names, require_key
from alpagasus_ray.recipe_section import holds_a_secret

INPUT_PRICE = "input_usd_per_million_tokens"
PRICE = f"{INPUT_PRICE}: 2, output_usd_per_million_tokens: 8"


def complaint(act: Callable[[], Any]) -> str:
    """Return the one line that a user is told."""
    with pytest.raises(UserError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text, f"more than one line: {text!r}"
    return text


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


RecipeFile = Callable[[str], str]


def test_without_anything_the_defaults_stand() -> None:
    assert load_recipe(None) == Recipe()


def test_the_papers_settings_are_the_defaults() -> None:
    recipe = Recipe()
    assert (recipe.grade.model, recipe.compare.model) == ("gpt-3.5-turbo-0301", "gpt-4-0613")
    assert (recipe.grade.temperature, recipe.grade.top_p, recipe.grade.max_tokens) == (0.0, 1.0, 256)
    assert (recipe.compare.temperature, recipe.compare.max_tokens, recipe.compare.rule) == (0.0, 256, "paper")
    train = recipe.train
    assert (train.epochs, train.learning_rate, train.global_batch_size) == (3, 2e-5, 128)
    assert (train.warmup_ratio, train.weight_decay, train.max_length_tokens) == (0.03, 0.0, 512)
    assert (recipe.generate.max_new_tokens, recipe.generate.temperature) == (1024, 0.0)


def test_flags_win_over_set_and_set_over_the_file(recipe_file: RecipeFile) -> None:
    file = recipe_file("grade: {max_tokens: 10, timeout_s: 11, max_retries: 12}")
    overrides = ["grade.max_tokens=20", "grade.timeout_s=21"]
    grade = load_recipe(file, overrides, {"grade.max_tokens": 30, "grade.max_retries": None}).grade
    assert (grade.max_tokens, grade.timeout_s, grade.max_retries) == (30, 21.0, 12)


def test_the_guard_is_put_off_as_anybody_would_write_it(recipe_file: RecipeFile) -> None:
    """YAML takes a bare off for false."""
    assert load_recipe(None, ["grade.guard.action=off"]).grade.guard.action == "off"
    recipe = load_recipe(recipe_file("grade: {guard: {action: off}}"))
    assert recipe.grade.guard.action == "off"
    assert load_recipe(None, stored=recipe.to_yaml()) == recipe
    assert "warn" in complaint(lambda: load_recipe(None, ["grade.guard.action=on"]))


def test_the_last_set_wins() -> None:
    assert load_recipe(None, ["train.epochs=4", "train.epochs=5"]).train.epochs == 5


def test_a_stored_recipe_is_taken_only_where_none_is_named(recipe_file: RecipeFile) -> None:
    stored = "train: {epochs: 7}"
    assert load_recipe(None, stored=stored).train.epochs == 7
    assert load_recipe(recipe_file("grade: {max_tokens: 10}"), stored=stored).train.epochs == 3


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("train.learning_rate=1e-3", lambda recipe: recipe.train.learning_rate == 0.001),
        ("corpus.limit=null", lambda recipe: recipe.corpus.limit is None),
        ("grade.model=org/a=b", lambda recipe: recipe.grade.model == "org/a=b"),
        ("generate.testsets=[a.jsonl, b.jsonl]", lambda r: r.generate.testsets == ("a.jsonl", "b.jsonl")),
        ("serve.engine={max_num_seqs: 4}", lambda recipe: recipe.serve.engine == {"max_num_seqs": 4}),
        ("serve.engine.max_num_seqs=4", lambda recipe: recipe.serve.engine == {"max_num_seqs": 4}),
        ("arms.best={selector: top-k, k: 3}", lambda r: r.arms["best"] == ArmSettings(selector="top-k", k=3)),
        (" train.epochs =4", lambda recipe: recipe.train.epochs == 4),
        (
            f"prices={{gpt-4.1: {{{PRICE}}}}}",
            lambda r: r.prices["gpt-4.1"].output_usd_per_million_tokens == 8,
        ),
        ("grade.requests_per_minute=500", lambda r: r.grade.requests_per_minute == 500),
    ],
)
def test_a_value_is_read_as_yaml(override: str, read: Callable[[Recipe], bool]) -> None:
    assert read(load_recipe(None, [override]))


def test_one_key_of_a_section_leaves_the_others(recipe_file: RecipeFile) -> None:
    file = recipe_file("arms:\n  few: {selector: top-k, k: 3, seed: 4}\ngrade:\n")
    recipe = load_recipe(file, ["arms.few.k=5", "grade.max_tokens=9"])
    assert recipe.arms["few"] == ArmSettings(selector="top-k", k=5, seed=4)
    assert recipe.grade.max_tokens == 9


@pytest.mark.parametrize(
    ("override", "wrong", "right"),
    [
        ("grade.rubrik=accuracy", "grade.rubrik", "rubric"),
        ("grad.model=x", "grad", "grade"),
        ("arms.x={selector: threshold, treshold: 4}", "arms.x.treshold", "threshold"),
        ("grade.guard.acton=stop", "grade.guard.acton", "action"),
        ("toyworld.num_row=20", "toyworld.num_row", "num_rows"),
        ("train.lora.rnk=3", "train.lora.rnk", "rank"),
        ("mt_bench.question=x", "mt_bench.question", "questions"),
        ("train.learningrate=1", "train.learningrate", "learning_rate"),
        ("compare.num_resample=1000", "compare.num_resample", "num_resamples"),
        ("generate.max_new_token=3", "generate.max_new_token", "max_new_tokens"),
        ("serve.pord=3", "serve.pord", "port"),
        ("legder=here", "legder", "ledger"),
        (f"prices={{gpt-4.1: {{{PRICE}, input_usd_per_million_token: 1}}}}", "prices.gpt-4.1", INPUT_PRICE),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(override: str, wrong: str, right: str) -> None:
    text = complaint(lambda: load_recipe(None, [override]))
    assert wrong in text
    assert f'Did you mean "{right}"?' in text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("train.quantization=nf4", "train.lora.quantization"),
        ("strategy=single", "train.strategy"),
        ("generate.good_share=0.5", "toyworld.good_share"),
        ("rank=8", "train.lora.rank"),
        ("generate.max_replicas=2", "serve.max_replicas"),
        ("train.threshold=4", "arms.NAME.threshold"),
        ("grade.input_usd_per_million_tokens=1", "prices.NAME.input_usd_per_million_tokens"),
    ],
)
def test_a_setting_in_a_wrong_place_is_told_its_own(wrong: str, right: str) -> None:
    with pytest.raises(UserError) as raised:
        load_recipe(None, [wrong])
    assert str(raised.value).endswith(f'Did you mean "{right}"?')


def test_a_key_that_is_near_to_none_gets_the_list() -> None:
    assert "max_tokens" in complaint(lambda: load_recipe(None, ["grade.zzzzzz=1"]))


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("grade.requests_per_minute=0", "grade.requests_per_minute"),
        ("compare.tokens_per_minute=-1", "compare.tokens_per_minute"),
        ("grade.max_cost_usd=0", "grade.max_cost_usd"),
        ("prices={gpt-4o: 3}", "prices.gpt-4o"),
        ("prices={gpt-4o: {input_usd_per_million_tokens: 3}}", "prices.gpt-4o.output_usd_per_million_tokens"),
        ("prices.gpt-4o.input_usd_per_million_tokens=-3", "prices.gpt-4o"),
        ("train.epochs=three", "train.epochs"),
        ("train.epochs=2.5", "train.epochs"),
        ("train.epochs=0", "train.epochs"),
        ("train.learning_rate=-1", "train.learning_rate"),
        ("train.warmup_ratio=1.5", "train.warmup_ratio"),
        ("train.strategy=ddp", "train.strategy"),
        ("train.precision=fp8", "train.precision"),
        ("grade.model=[a]", "grade.model"),
        ("grade.model=4", "grade.model"),
        ("grade.judge=oracle", "grade.judge"),
        ("grade.top_p=0", "grade.top_p"),
        ("grade.max_concurrency=many", "grade.max_concurrency"),
        ("serve.port=70000", "serve.port"),
        ("corpus.limit=0", "corpus.limit"),
        ("toyworld.good_share=1.0", "toyworld.good_share"),
        ("generate.testsets=koala", "generate.testsets"),
        ("compare.pairs=[[a]]", "compare.pairs"),
        ("compare.pairs=[[a, b, c]]", "compare.pairs"),
        ("compare.pairs=[[a, a]]", "compare a with itself"),
        ("compare.pairs=[[a, b], [b, a]]", "compare a and b twice"),
        ("compare.pairs=[[a, b], [a, b]]", "compare a and b twice"),
        ("compare={escalate: gpt-4-0613}", "has judged already"),
        ("compare={escalate: o, early_stop: 0.05}", "take one away"),
        ("compare={all_pairs: true, baseline: a}", "exclude each other"),
        ("compare={import_reviews: [a.json], escalate: o}", "import_reviews asks nobody"),
        ("compare.early_stop=1", "compare.early_stop"),
        ("grade=5", "grade"),
        ("arms=[a, b]", "arms"),
        ("arms.full=full", "arms.full"),
        ("arms.a/b={selector: full}", "a/b"),
        ("arms={..: {selector: full}}", ".."),
        ("arms={'': {selector: full}}", "arms"),
        ("grade.model.name=x", "grade.model"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(override: str, where: str) -> None:
    assert where in complaint(lambda: load_recipe(None, [override]))


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    "override",
    [
        "arms.f={{selector: threshold, threshold: {}}}",
        "train.learning_rate={}",
        "grade.temperature={}",
        "grade.timeout_s={}",
    ],
)
def test_a_number_that_is_none_is_refused(override: str, number: str) -> None:
    """A threshold of nan would keep every row: no score is below it."""
    complaint(lambda: load_recipe(None, [override.format(number)]))


@pytest.mark.parametrize(
    "override", ["", "grade", "grade.model", "=", "=5", "grade.=5", ".grade=5", "grade..model=x"]
)
def test_a_set_without_key_or_value_is_refused(override: str) -> None:
    complaint(lambda: load_recipe(None, [override]))


@pytest.mark.parametrize("value", ["[1,", "{a: b", '"open', "@x", "- a\n- b\n c", "\x00"])
def test_a_set_that_is_no_yaml_is_refused(value: str) -> None:
    assert "grade.model" in complaint(lambda: load_recipe(None, [f"grade.model={value}"]))


@pytest.mark.parametrize(
    ("arm", "complains"),
    [
        ({"selector": "threshold"}, "needs threshold"),
        ({"selector": "top-k"}, "needs k"),
        ({"selector": "keep-share"}, "needs keep_share"),
        ({"selector": "keep-share", "keep_share": 0.2, "threshold": 4}, "does not take threshold"),
        ({"selector": "keep-share", "keep_share": 1.01}, "keep_share"),
        ({"selector": "random"}, "needs count or same_size_as"),
        ({"selector": "random", "count": 5, "same_size_as": "full"}, "needs count or same_size_as"),
        ({"selector": "full", "threshold": 4.5}, "does not take threshold"),
        ({"selector": "top-k", "k": 3, "within": "full"}, "does not take within"),
        ({"selector": "threshold", "threshold": 4.5, "k": 3}, "does not take k"),
        ({"selector": "top-k", "k": 3, "count": 3}, "does not take count"),
        ({"selector": "best"}, "selector"),
        ({}, "selector"),
        ({"selector": "top-k", "k": 0}, "k"),
        ({"selector": "random", "count": -1}, "count"),
        ({"selector": "random", "same_size_as": "../x"}, "same_size_as"),
        ({"selector": "threshold", "threshold": "4,5"}, "threshold"),
        ({"selector": "full", "rubric": "accuracy"}, "does not take rubric"),
        ({"selector": "random", "count": 3, "rubric": "accuracy"}, "does not take rubric"),
        ({"selector": "threshold", "threshold": 4, "rubric": "../x"}, "rubric"),
    ],
)
def test_an_arm_has_what_its_selector_needs(arm: dict[str, Any], complains: str) -> None:
    text = complaint(lambda: parse_recipe({"arms": {"mine": arm}}))
    assert "arms.mine" in text
    assert complains in text


def test_a_threshold_of_zero_is_a_threshold() -> None:
    assert parse_recipe({"arms": {"a": {"selector": "threshold", "threshold": 0}}}).arms["a"].threshold == 0


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("accuracy", ("accuracy",)),
        ("[accuracy, helpfulness]", ("accuracy", "helpfulness")),
        ("[accuracy, /a/mine.yaml]", ("accuracy", "/a/mine.yaml")),
        ("mine.yml", (str(Path("mine.yml").absolute()),)),
        ("./mine", (str(Path("mine").absolute()),)),
        ("~/mine.yaml", (str(Path("~/mine.yaml").expanduser()),)),
    ],
)
def test_rubrics_are_names_or_files_and_one_or_several(written: str, read: tuple[str, ...]) -> None:
    recipe = load_recipe(None, [f"grade.rubric={written}"])
    assert recipe.grade.rubric == read
    assert load_recipe(None, stored=recipe.to_yaml()) == recipe


@pytest.mark.parametrize("written", ["[]", "''", "[accuracy, '']", "5", "null", "{a: b}"])
def test_what_names_no_rubric_is_refused(written: str) -> None:
    assert "grade.rubric" in complaint(lambda: load_recipe(None, [f"grade.rubric={written}"]))


def test_an_arm_may_say_whose_scores_count() -> None:
    arms = {"a": {"selector": "top-k", "k": 3, "rubric": "helpfulness"}, "b": {"selector": "top-k", "k": 3}}
    recipe = parse_recipe({"arms": arms})
    assert (recipe.arms["a"].rubric, recipe.arms["b"].rubric) == ("helpfulness", None)


def test_one_worker_is_all_that_single_runs() -> None:
    assert "train.workers" in complaint(lambda: load_recipe(None, ["train.strategy=single"]))
    assert load_recipe(None, ["train.strategy=single", "train.workers=1"]).train.workers == 1


# Files.


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.arms
    assert all(arm in recipe.arms for pair in recipe.compare.pairs for arm in pair)


def test_the_demo_ships() -> None:
    assert "demo" in recipe_names()
    demo = load_recipe("demo")
    assert set(demo.arms) == {"full", "filtered", "random"}
    assert demo.arms["random"].same_size_as == "filtered"


def test_a_missing_recipe_is_named_with_the_nearest() -> None:
    text = complaint(lambda: load_recipe("dmo"))
    assert "dmo" in text
    assert '"demo"' in text


@pytest.mark.parametrize(
    "name", ["no/such/recipe.yaml", "../demo", "demo.yaml", "..", ".", "~/x.yaml", "x\0y"]
)
def test_what_is_neither_file_nor_name_is_refused(name: str) -> None:
    complaint(lambda: load_recipe(name))


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null"])
def test_an_empty_file_is_the_defaults(recipe_file: RecipeFile, text: str) -> None:
    assert load_recipe(recipe_file(text)) == Recipe()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("grade:\n  model: x\n bad: [1,\n", "line 3"),
        ("grade:\n\tmodel: x\n", "line 2"),
        ("a: 'open\n", "line 2"),
        ("x: @y\n", "line 1"),
        ("grade: {model: *nobody}\n", "line 1"),
        ("grade:\n  model: x\n  model: y\n", "line 3"),
        ("grade: {model: x}\narms: {}\ngrade: {reader: original}\n", "line 3"),
    ],
)
def test_bad_yaml_names_file_and_line(recipe_file: RecipeFile, text: str, line: str) -> None:
    file = recipe_file(text)
    said = complaint(lambda: load_recipe(file))
    assert file in said
    assert line in said


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "5", "1: 2", "null: 3", "{}: 1", "a\0b: 1"])
def test_a_file_that_is_no_recipe_is_refused(recipe_file: RecipeFile, text: str) -> None:
    complaint(lambda: load_recipe(recipe_file(text)))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"grade: {model: \xff\xfe}")
    assert str(path) in complaint(lambda: load_recipe(str(path)))


# Round trip.


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,10}\Z")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
ARMS = st.one_of(
    st.builds(ArmSettings, selector=st.just("full"), seed=st.integers()),
    st.builds(ArmSettings, selector=st.just("threshold"), threshold=st.floats(-10, 10)),
    st.builds(ArmSettings, selector=st.just("top-k"), k=st.integers(1, 9)),
    st.builds(ArmSettings, selector=st.just("keep-share"), keep_share=st.floats(0.01, 1)),
    st.builds(ArmSettings, selector=st.just("random"), same_size_as=NAMES),
)
PAIRS = st.lists(
    st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1]), max_size=3, unique_by=frozenset
)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "corpus": st.fixed_dictionaries({}, optional={"data": TEXT, "limit": st.integers(1)}),
        "grade": st.fixed_dictionaries(
            {},
            optional={
                "model": TEXT,
                "base_url": st.just("http://127.0.0.1:8000/v1"),
                "temperature": st.floats(0, 2),
            },
        ),
        "arms": st.dictionaries(NAMES, ARMS, max_size=3),
        "train": st.fixed_dictionaries(
            {}, optional={"model": TEXT, "learning_rate": st.floats(1e-12, 1), "epochs": st.integers(1, 99)}
        ),
        "serve": st.fixed_dictionaries({}, optional={"engine": st.dictionaries(TEXT, PLAIN, max_size=3)}),
        "generate": st.fixed_dictionaries({}, optional={"testsets": st.lists(TEXT, max_size=3)}),
        "compare": st.fixed_dictionaries({}, optional={"pairs": PAIRS}),
        "ledger": TEXT,
    },
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(RECIPES)
def test_a_stored_recipe_is_read_back_the_same(values: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(values)
    assert load_recipe(None, stored=recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    "name", ["yes", "null", "~", "1e5", "0x1f", "2024-01-01", "a: b", "- a", "#x", " x "]
)
def test_names_that_yaml_would_misread_are_stored_as_text(name: str) -> None:
    recipe = parse_recipe({"grade": {"model": name}})
    assert load_recipe(None, stored=recipe.to_yaml()).grade.model == name


def test_a_stored_recipe_is_in_full() -> None:
    stored = yaml.safe_load(Recipe().to_yaml())
    assert stored["train"]["global_batch_size"] == 128
    assert stored["compare"]["pairs"] == [["filtered", "full"], ["filtered", "random"]]


# Secrets.


def sections(model: type[Section]) -> Iterator[type[Section]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, Section):
                yield from sections(part)


def test_the_recipe_has_no_place_for_a_secret() -> None:
    names = {name for section in sections(Recipe) for name in section.model_fields}
    assert {"max_tokens", "api_key_env"} <= names
    secret = {name for name in names if re.search(r"key|secret|password|credential|_token$", name)}
    assert {name for name in secret if not name.endswith("_env")} == set()


def test_a_stored_recipe_holds_the_variables_name_and_not_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    recipe = load_recipe(None, ["grade.api_key_env=MY_KEY"])
    assert require_key(recipe.grade.api_key_env) == "sk-very-secret"
    assert "MY_KEY" in recipe.to_yaml()
    assert "sk-very-secret" not in recipe.to_yaml() + repr(recipe)


@pytest.mark.parametrize("setting", ["grade.api_key_env", "compare.api_key_env", "generate.api_key_env"])
def test_a_key_in_place_of_the_variables_name_is_refused_and_not_repeated(setting: str) -> None:
    """The slip is common, and the recipe is stored: the key would lie in the run directory."""
    text = complaint(lambda: load_recipe(None, [f"{setting}=sk-proj-4f2secret"]))
    assert setting in text
    assert "4f2secret" not in text


@pytest.mark.parametrize("value", ["sk-mine\n", " sk-mine\r\n", "sk-mine"])
def test_a_key_from_a_file_is_taken_without_its_line_end(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """As `kubectl create secret --from-file` brings it: with it, nobody could send the key."""
    monkeypatch.setenv("MY_KEY", value)
    assert require_key("MY_KEY") == "sk-mine"


@pytest.mark.parametrize("value", ["sk-mïne", "sk-\nmine", "sk-\x07", "密"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    text = complaint(lambda: require_key("MY_KEY"))
    assert "MY_KEY" in text and "no header can carry" in text
    assert value not in text and "\n" not in text


@pytest.mark.parametrize("value", [None, "", " ", "\n"])
def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    assert "MY_KEY" in complaint(lambda: require_key("MY_KEY"))


def test_where_no_variable_is_named_no_key_is_needed() -> None:
    assert require_key(None) is None


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:topsecret@bucket/run",
        "s3://AKIA@bucket/run",
        "s3://AKIA:top/secret@bucket/run",
        "gs://me@bucket/run",
        "GS://me@bucket/run",
        "http://me:topsecret@host:8000/v1",
        "http://me:top/secret@host:8000/v1",
        "https://topsecret@host/v1",
        "abfss://runs:topsecret@me.dfs.core.windows.net/run",
        "abfss://runs%3Atopsecret@me.dfs.core.windows.net/run",
        "abfs://:topsecret@me.dfs.core.windows.net/run",
        "hdfs://me:topsecret@host:9000/run",
        "abfss://runs@me.dfs.core.windows.net/run?sig=topsecret",
        "abfss://runs@me.dfs.core.windows.net/run?client_id=a&client_secret=topsecret",
        "abfss://runs@me.dfs.core.windows.net/run?account_key=topsecret",
        "s3://bucket/run?region=x&access_key=topsecret",
        "s3://bucket/run?secret%5Fkey=topsecret",
        "https://host/data.json?X-Amz-Security-Token=topsecret",
        "https://host/data.json?X-Amz-Signature=topsecret",
        "https://host/data.json?sv=1&api-key=topsecret#x",
        "https://host/v1?key=topsecret",
        "https://host/v1?password=topsecret",
    ],
)
def test_addresses_with_a_secret(address: str) -> None:
    assert holds_a_secret(address)


@pytest.mark.parametrize(
    "address",
    [
        "abfss://runs@me.dfs.core.windows.net/run",
        "abfs://runs@me.dfs.core.windows.net",
        "abfss://runs@me.dfs.core.windows.net/run?tenant_id=a&client_id=b&credential_kind=cli",
        "s3://bucket/runs/a@b.json",
        "s3://bucket/run?endpoint_override=127.0.0.1:9000&scheme=http&region=us-east-1",
        "s3://bucket/run?endpoint_override=127.0.0.1:9000&allow_bucket_creation=true",
        "gs://bucket/run?retry_limit_seconds=10&project_id=x",
        "http://[::1]:8000/v1",
        "http://[::1]/v1",
        "https://me.openai.azure.com/openai?api-version=2024-06-01",
        "https://host/data.json?token=",
        "hdfs://me@host:9000/run",
        "/shared/runs/a:b@c?sig=x",
        "tatsu-lab/alpaca@main",
    ],
)
def test_addresses_without_a_secret(address: str) -> None:
    assert not holds_a_secret(address)


def test_no_endpoint_has_a_key_in_its_address() -> None:
    with pytest.raises(UserError, match="without a user or key in it") as caught:
        load_recipe("demo", ["grade.base_url=https://host/v1?api_key=topsecret"])
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("setting", ["corpus.data", "ledger"])
def test_no_address_holds_a_secret(setting: str) -> None:
    with pytest.raises(UserError, match="keys come from the environment") as caught:
        load_recipe("demo", [f"{setting}=s3://AKIA:topsecret@bucket/folder"])
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arms", "grade", "wants"),
    [
        ("{}", "{}", True),
        ("{all: {selector: full}}", "{}", False),
        ("{all: {selector: full}, some: {selector: random, count: 3}}", "{}", False),
        ("{all: {selector: full}, best: {selector: keep-share, keep_share: 0.2}}", "{}", True),
        ("{all: {selector: full}}", "{import_reviews: reviews.json}", True),
    ],
)
def test_a_run_grades_where_somebody_looks_at_scores(arms: str, grade: str, wants: bool) -> None:
    assert load_recipe(None, [f"arms={arms}", f"grade={grade}"]).wants_grades == wants
