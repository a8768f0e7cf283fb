"""Answers over the protocol: the very string of training goes out, and nothing is asked twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, Progress, plain_console
from alpagasus_ray.corpus.answers import Answer, answers_from_jsonl
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.generating import Generation
from alpagasus_ray.generate.roads import EndpointRoad, Remembered
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.manifests import Made, Manifest
from alpagasus_ray.recipe import Recipe, ServeSettings
from alpagasus_ray.recipe_files import parse_recipe, require_key
from tests.loopback import Body, LoopbackServer, error

KOALA = [{"id": f"koala_{number}", "prompt": f"Question <{number}>?"} for number in range(12)]
SINSTRUCT = [
    {"id": "s_0", "instruction": "Add {input}.", "instances": [{"input": "2, 3"}], "category": "sum"},
    {"id": "s_1", "instruction": "Say hello.", "instances": [{"input": ""}]},
]


class Bench:
    """An arm, two test sets and an endpoint."""

    def __init__(self, run: RunDirectory, console: Console, endpoint: LoopbackServer, folder: Path) -> None:
        self.run, self.console, self.endpoint, self._folder = run, console, endpoint, folder
        self.settings: dict[str, Any] = {"base_url": endpoint.base_url, "max_retries": 0}
        self.serve: dict[str, Any] = {}
        self.train: dict[str, Any] = {}
        self.testsets(koala_test_set=KOALA, sinstruct_test_set=SINSTRUCT)

    def testsets(self, **testsets: list[dict[str, Any]]) -> None:
        files = []
        for name, rows in testsets.items():
            path = self._folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            files.append(str(path))
        self.settings["testsets"] = files

    def generation(self, arm: str = "filtered", **changed: Any) -> Generation:
        return Generation(self.run, self.recipe(**changed), arm)

    def recipe(self, **changed: Any) -> Recipe:
        return parse_recipe(
            {"generate": {**self.settings, **changed}, "serve": self.serve, "train": self.train}
        )

    def make(self, arm: str = "filtered", **changed: Any) -> Manifest:
        generation = self.generation(arm, **changed)
        key = require_key(generation.settings.api_key_env)
        road = EndpointRoad(self.endpoint.base_url, key, generation.settings)
        return generation.make(road, self.console)

    def answers(self, testset: str, arm: str = "filtered") -> dict[str, Answer]:
        name = f"{self.run.answers(arm)}/{testset}.jsonl"
        return answers_from_jsonl(self.run.read_text(name), name)


@pytest.fixture
def bench(run: RunDirectory, console: Console, endpoint: LoopbackServer, tmp_path: Path) -> Iterator[Bench]:
    endpoint.reply = lambda body: f" Answer to {body['prompt'][-60:]}\n"
    yield Bench(run, console, endpoint, tmp_path)


def only_after(times: int, answer: Callable[[], Any]) -> Callable[[Body, int], Any]:
    """Return a fault that lets so many requests pass."""
    passed: list[Body] = []

    def fault(body: Body, before: int) -> Any:
        passed.append(body)
        return answer() if len(passed) > times else None

    return fault


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_endpoint_of_our_own_gets_all_prompts_at_once(bench: Bench, is_ours: bool) -> None:
    bench.testsets(mine=[{"id": str(i), "prompt": f"Number {i}?"} for i in range(64)])
    bench.endpoint.latency_s = 0.3
    generation = bench.generation(max_concurrency=64)
    generation.make(
        EndpointRoad(bench.endpoint.base_url, None, generation.settings, is_ours=is_ours), bench.console
    )
    assert (bench.endpoint.max_in_flight == 64) is is_ours


def test_every_prompt_of_every_test_set_is_answered(bench: Bench) -> None:
    manifest = bench.make()
    assert {name: manifest.counts[name] for name in ("answers", "koala", "sinstruct")} == {
        "answers": 14,
        "koala": 12,
        "sinstruct": 2,
    }
    assert manifest.failures == {}
    assert manifest.details["finish_reasons"] == {"stop": 14}
    assert list(bench.answers("koala")) == [row["id"] for row in KOALA]


def test_an_answer_has_the_question_that_the_judge_is_shown(bench: Bench) -> None:
    bench.endpoint.reply = lambda body: "  Five. \n"
    bench.make()
    assert bench.answers("sinstruct") == {
        "s_0": Answer("s_0", "filtered", "Add {input}. Input: 2, 3", "sum", "Five.", "stop", 34, 1),
        "s_1": Answer("s_1", "filtered", "Say hello.", None, "Five.", "stop", 22, 1),
    }


def test_the_prompt_is_the_very_string_of_training(bench: Bench) -> None:
    bench.make()
    prompts = set(bench.endpoint.asked)
    assert (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd {input}."
        "\n\n### Input:\n2, 3\n\n### Response:"
    ) in prompts
    assert (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nSay hello.\n\n### Response:"
    ) in prompts
    assert len(prompts) == 14


def test_the_arm_is_asked_by_its_name_with_the_settings(bench: Bench) -> None:
    bodies: list[Body] = []
    bench.endpoint.reply = lambda body: bodies.append(body) or "x"  # type: ignore[func-returns-value]
    bench.make("v1.5", max_new_tokens=7, temperature=0.5, top_p=0.9)
    sent = {(one["model"], one["max_tokens"], one["temperature"], one["top_p"]) for one in bodies}
    assert sent == {("v1.5", 7, 0.5, 0.9)}


def test_many_are_in_flight_and_no_more_than_allowed(bench: Bench) -> None:
    bench.endpoint.latency_s = 0.05
    bench.make(max_concurrency=5)
    assert bench.endpoint.max_in_flight == 5


@pytest.mark.parametrize(
    "text", ["### Response: is what I said.", "", "a\u2028b\r\nc", "half a \ud83d", "\0", "Äpfel 🍐"]
)
def test_an_answer_is_kept_whatever_is_in_it(bench: Bench, text: str) -> None:
    """An answer is not cut at the word Response, and no odd one stops the others."""
    bench.endpoint.reply = lambda body: text if "Say hello." in body["prompt"] else "x"
    bench.make()
    assert set(bench.answers("sinstruct")) == {"s_0", "s_1"}
    kept = bench.answers("sinstruct")["s_1"].text
    whole, _, _ = text.partition("\ud83d")
    assert kept == text if whole == text else kept.startswith(whole)


def test_a_cut_answer_is_known_as_such(bench: Bench) -> None:
    body = {"id": "x", "object": "text_completion", "created": 0, "model": "filtered", "usage": None}
    choice = {"index": 0, "finish_reason": "length", "text": "one two", "logprobs": None}
    bench.endpoint.fault = lambda _, before: web.json_response({**body, "choices": [choice]})
    assert bench.make().details["finish_reasons"] == {"length": 14}
    assert bench.answers("koala")["koala_0"].finish_reason == "length"


# Done once.


def test_what_is_committed_is_not_asked_again(bench: Bench) -> None:
    assert bench.generation().committed() is None
    manifest = bench.make()
    assert bench.generation().committed() == manifest
    assert bench.make() == manifest
    assert bench.endpoint.asked.total() == 14


@pytest.mark.parametrize(
    "changed", [{"max_new_tokens": 8}, {"temperature": 0.7}, {"top_p": 0.5}, {"base_url": "http://other/v1"}]
)
def test_what_shapes_answers_asks_anew(bench: Bench, changed: dict[str, Any]) -> None:
    bench.make()
    assert bench.generation(**changed).committed() is None


@pytest.mark.parametrize("changed", [{"max_concurrency": 3}, {"timeout_s": 9}, {"max_retries": 1}])
def test_what_only_speeds_things_up_does_not(bench: Bench, changed: dict[str, Any]) -> None:
    manifest = bench.make()
    assert bench.generation(**changed).committed() == manifest


def test_a_changed_prompt_asks_anew(bench: Bench) -> None:
    bench.make()
    bench.testsets(koala_test_set=[*KOALA[:-1], {**KOALA[-1], "prompt": "Another?"}])
    assert bench.generation().committed() is None
    assert bench.make().counts["answers"] == 12


def test_the_same_prompts_in_another_file_do_not(bench: Bench) -> None:
    manifest = bench.make()
    bench.testsets(koala=KOALA, sinstruct=SINSTRUCT)
    assert bench.generation().committed() == manifest


def test_arms_do_not_share_answers(bench: Bench) -> None:
    bench.make("full")
    assert bench.generation("filtered").committed() is None
    bench.make("filtered")
    assert set(bench.endpoint.answered.values()) == {2}


def test_a_model_trained_anew_is_asked_anew(bench: Bench) -> None:
    def train(text: str) -> None:
        def work() -> Made:
            bench.run.write_text("models/filtered/model.safetensors", text)
            return Made()

        bench.run.make("models/filtered", "train", {"text": text}, {}, work)

    def make() -> Manifest:
        return bench.make(base_url=None)

    with pytest.raises(UserError, match="train --arm filtered"):
        make()
    train("one")
    first = make()
    assert make() == first
    assert bench.endpoint.answered.total() == 14
    train("two")
    assert bench.generation(base_url=None).committed() is None
    make()
    assert bench.endpoint.answered.total() == 28


@pytest.mark.parametrize("by_recipe", [True, False])
def test_an_arm_trained_by_its_own_chat_template_is_asked_by_it(bench: Bench, by_recipe: bool) -> None:
    """As its manifest says; an endpoint of somebody's own, as the recipe does."""
    bodies: list[Body] = []
    bench.endpoint.reply = lambda body: bodies.append(body) or "x"  # type: ignore[func-returns-value]
    if by_recipe:
        bench.train = {"template": "chat"}
        bench.make()
    else:
        bench.run.make("models/filtered", "train", {"template": "chat"}, {}, Made)
        bench.make(base_url=None)
    asked = [body["messages"] for body in bodies]
    assert len(asked) == 14 and not any("prompt" in body for body in bodies)
    assert [{"role": "user", "content": "Add {input}.\n\n2, 3"}] in asked
    assert [{"role": "user", "content": "Say hello."}] in asked


def test_what_was_asked_in_the_other_template_is_asked_anew(bench: Bench) -> None:
    bench.make()
    bench.train = {"template": "chat"}
    assert bench.generation().committed() is None
    bench.train = {"template": "alpaca", "epochs": 7}
    assert bench.generation().committed() is not None
    bench.run.make("models/filtered", "train", {"template": "alpaca"}, {}, Made)
    bench.train = {"template": "chat"}
    assert bench.generation().committed() is not None, "the trained model knows better than the recipe"


def test_how_a_model_is_served_shapes_its_answers(bench: Bench) -> None:
    bench.run.make("models/filtered", "train", {}, {}, Made)
    bench.make(base_url=None)
    bench.serve = {"num_replicas": 2}
    assert bench.generation(base_url=None).committed() is not None
    bench.serve = {"dtype": "bfloat16"}
    assert bench.generation(base_url=None).committed() is None


# What goes wrong.


def test_after_an_interruption_only_what_is_missing_is_asked(bench: Bench) -> None:
    bench.endpoint.fault = only_after(5, lambda: error(401, "The key has run out.", "invalid_api_key"))
    with pytest.raises(UserError, match=r"The key has run out\."):
        bench.make(max_concurrency=1)
    assert bench.generation().committed() is None
    assert bench.endpoint.answered.total() == 5
    bench.endpoint.fault = lambda body, before: None
    assert bench.make().counts["answers"] == 14
    assert set(bench.endpoint.answered.values()) == {1}


@pytest.mark.parametrize(
    "serve", [{"dtype": "bfloat16"}, {"max_model_length_tokens": 64}, {"base_model": "elsewhere"}]
)
def test_what_was_answered_under_other_serve_settings_is_not_mixed_in(
    bench: Bench, serve: dict[str, Any]
) -> None:
    bench.run.make("models/filtered", "train", {}, {}, Made)
    bench.endpoint.fault = only_after(5, lambda: error(401, "The key has run out.", "invalid_api_key"))
    with pytest.raises(UserError):
        bench.make(base_url=None, max_concurrency=1)
    bench.endpoint.fault = lambda body, before: None
    bench.endpoint.reply = lambda body: "new"
    bench.serve = serve
    assert bench.make(base_url=None).counts["answers"] == 14
    answers = [*bench.answers("koala").values(), *bench.answers("sinstruct").values()]
    assert {one.text for one in answers} == {"new"}


def test_an_adapter_over_another_base_is_asked_anew(bench: Bench) -> None:
    bench.run.make("models/filtered", "train", {}, {}, Made)
    bench.make(base_url=None)
    bench.serve = {"base_model": "/models/another"}
    assert bench.generation(base_url=None).committed() is None


def test_a_limit_below_the_length_of_the_answers_is_told_before_models_are_loaded(bench: Bench) -> None:
    bench.run.make("models/filtered", "train", {}, {}, Made)
    bench.serve = {"max_answer_tokens": 64}
    told = r"serve.max_answer_tokens \(64\) is less than generate.max_new_tokens \(1,024\)"
    with pytest.raises(UserError, match=told):
        bench.generation(base_url=None)
    bench.generation(base_url=None, max_new_tokens=64)
    bench.generation()  # an endpoint of somebody's own, which this limit is not of


def test_the_stages_own_endpoint_takes_any_free_port_unless_one_is_named() -> None:
    assert ServeSettings().of_a_stage(600).port == 0
    assert ServeSettings(port=8123).of_a_stage(600).port == 8123
    assert ServeSettings(replica_wait_s=3).of_a_stage(600).replica_wait_s == 600


def test_an_interrupted_arm_does_not_get_another_ones_replies(bench: Bench) -> None:
    bench.endpoint.fault = only_after(5, lambda: error(401, "The key has run out.", "invalid_api_key"))
    with pytest.raises(UserError):
        bench.make("full", max_concurrency=1)
    bench.endpoint.fault = lambda body, before: None
    bench.make("filtered")
    assert bench.endpoint.answered.total() == 5 + 14


def test_a_test_set_more_or_less_asks_only_what_was_never_asked(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.console = plain_console()  # on the streams of this moment
    bench.make()
    before = bench.answers("koala")
    bench.testsets(koala=KOALA)
    bench.make()
    assert "sinstruct: not among generate.testsets any more" in capsys.readouterr().err
    assert bench.endpoint.asked.total() == 14 and bench.answers("koala") == before
    bench.testsets(koala=KOALA, sinstruct=SINSTRUCT, more=[{"prompt": "One more?"}])
    assert bench.make().counts == {"koala": 12, "sinstruct": 2, "more": 1, "answers": 15}
    assert bench.endpoint.asked.total() == 15
    assert "14 of 15 prompts were answered before" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_told_at_once(bench: Bench) -> None:
    started_s = time.monotonic()
    generation = bench.generation(max_retries=5)
    road = EndpointRoad("http://127.0.0.1:9/v1", None, generation.settings)
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:9/v1 cannot be reached: \[Errno"):
        generation.make(road, bench.console)
    assert time.monotonic() - started_s < 20, "not after all the tries of all the prompts"


def test_answers_stay_until_there_are_others(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint that is gone, or refuses all, costs a run nothing that it had."""
    manifest, before = bench.make(), bench.answers("koala")
    bench.testsets(mine=[{"prompt": "One more?"}])
    generation = bench.generation()
    with pytest.raises(UserError, match="cannot be reached"):
        generation.make(EndpointRoad("http://127.0.0.1:9/v1", None, generation.settings), bench.console)
    bench.endpoint.fault = lambda body, before: error(401, "Incorrect API key provided.", "invalid_api_key")
    with pytest.raises(UserError):
        bench.make()
    assert bench.answers("koala") == before
    assert bench.run.manifest("answers/filtered") == manifest
    assert "leave the run" not in capsys.readouterr().err


def test_a_prompt_without_an_answer_is_counted_and_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.console = plain_console()  # on the streams of this moment
    bench.endpoint.fault = lambda body, before: (
        error(400, "Too long.", "context_length_exceeded") if "<3>" in body["prompt"] else None
    )
    manifest = bench.make()
    assert manifest.counts["answers"] == 13
    assert manifest.failures == {"too long": 1}
    assert "koala_3" not in bench.answers("koala")
    assert len(bench.answers("koala")) == 11
    file = "answers/filtered/unanswered.json"
    (one,) = json.loads(bench.run.read_text(file))
    assert (one["testset"], one["id"]) == ("koala", "koala_3") and "Too long." in one["reason"]
    told, shown = capsys.readouterr().err.splitlines()[-2:]
    assert told.endswith(f"; filtered without an answer: too long (1) ({bench.run.shown(file)} says why)")
    assert shown == "generate: filtered: koala_3 of koala has no answer: too long: Too long."
    assert f"{bench.generation().lacking(manifest)}" in told, "said again by a command that finds it done"
    bench.endpoint.fault = lambda body, before: None
    bench.testsets(koala_test_set=KOALA)
    bench.make()
    assert not bench.run.exists(file)


def test_an_endpoints_own_words_reach_the_screen_alone(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """They may hold the row, and signs that make a terminal do things; and are never twice the same."""
    logged: list[Any] = []
    bench.console = plain_console()
    bench.console.on_event = lambda *event, **more: logged.append((event, more))
    contents = set()
    for words in ("\x1b[31mRequest 1\n", "Request 2 "):
        bench.endpoint.fault = lambda body, before, words=words: (  # type: ignore[misc]
            error(400, words + body["prompt"], "odd") if "<3>" in body["prompt"] else None
        )
        contents.add(bench.make(max_retries=len(contents)).content)
        bench.run.remove_folder("answers/filtered")
    told = capsys.readouterr().err
    assert "Below is an instruction" in told and "\x1b" not in told and max(map(len, told.splitlines())) < 300
    assert len(logged) > 2 and "Below is" not in str(logged)
    assert len(contents) == 1, "what is compared was answered alike"


def test_an_endpoint_that_is_gone_is_told_in_one_line(bench: Bench) -> None:
    bench.testsets(koala_test_set=[{"prompt": f"Question <{number}>?"} for number in range(100)])
    bench.endpoint.fault = lambda body, before: error(500, "Oops.", "internal", {"retry-after-ms": "1"})
    with pytest.raises(UserError, match="Oops") as caught:
        bench.make()
    assert "\n" not in str(caught.value)
    assert bench.generation().committed() is None


def test_an_unknown_model_is_told(bench: Bench) -> None:
    bench.endpoint.models = ("full",)
    with pytest.raises(UserError, match="filtered"):
        bench.make()


def test_a_missing_key_is_told_before_anything_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="MY_KEY"):
        bench.make(api_key_env="MY_KEY")
    assert bench.endpoint.asked.total() == 0
    bench.endpoint.api_key = "sk-mine"
    monkeypatch.setenv("MY_KEY", "sk-mine")
    assert bench.make(api_key_env="MY_KEY").counts["answers"] == 14


def test_without_test_sets_nothing_can_be_asked(bench: Bench) -> None:
    with pytest.raises(UserError, match="testsets"):
        bench.generation(testsets=[])
    with pytest.raises(UserError, match="no such file"):
        bench.generation(testsets=["nowhere.jsonl"])


def test_two_test_sets_with_one_prompt_ask_it_once(bench: Bench) -> None:
    bench.testsets(one=[{"id": "a", "prompt": "Hi?"}], two=[{"id": "b", "prompt": "Hi?"}])
    assert bench.make().counts["answers"] == 2
    assert bench.endpoint.asked.total() == 1
    assert bench.answers("one")["a"].text == bench.answers("two")["b"].text


@pytest.mark.parametrize("name", ["answers", "results"])
def test_a_test_set_of_any_name_is_counted_for_itself(bench: Bench, name: str) -> None:
    bench.testsets(**{name: [{"prompt": "Hi?"}], "koala_test_set": KOALA})
    bench.make()
    assert len(bench.answers(name)) == 1
    assert bench.run.manifest(bench.run.answers("filtered")).counts["answers"] == 13  # type: ignore[union-attr]


def bodies_seen(bench: Bench) -> list[Body]:
    """Keep what the endpoint is sent from now on."""
    seen: list[Body] = []
    bench.endpoint.fault = lambda body, before: seen.append(body)
    return seen


def test_stop_texts_are_sent_and_make_other_answers(bench: Bench) -> None:
    seen = bodies_seen(bench)
    bench.make(stop=["###"])
    assert len(seen) == 14 and all(body["stop"] == ["###"] for body in seen)
    assert bench.generation(stop=["###"]).committed() is not None
    assert bench.generation().committed() is None


def test_a_seed_counts_where_answers_are_drawn(bench: Bench) -> None:
    seen = bodies_seen(bench)
    bench.make(seed=7)
    assert len(seen) == 14 and not any("seed" in body for body in seen)
    assert bench.generation(seed=8).committed() is not None, "greedy answers know no seed"
    seen.clear()
    bench.make(temperature=0.7, seed=7)
    assert len(seen) == 14 and all(body["seed"] == 7 for body in seen)
    assert bench.generation(temperature=0.7, seed=8).committed() is None


def test_the_tokens_of_all_answers_are_counted(bench: Bench) -> None:
    details = bench.make().details
    answers = [*bench.answers("koala").values(), *bench.answers("sinstruct").values()]
    assert details["completion_tokens"] == sum(one.completion_tokens or 0 for one in answers) > 0
    assert details["prompt_tokens"] == sum(one.prompt_tokens or 0 for one in answers) > 0
    assert details["road"] == "endpoint"


def test_what_was_answered_before_needs_nobody_to_ask(bench: Bench) -> None:
    """Test sets that are named again, after others: no model is served for them, on any road."""
    assert bench.generation().replies_of_before is None
    bench.make()
    before = bench.answers("koala")
    bench.testsets(mine=[{"id": "x", "prompt": "Hi?"}])
    assert bench.generation().replies_of_before is None, "a prompt of others is not there"
    bench.make()
    num_asked = len(bench.endpoint.asked)
    bench.testsets(koala=KOALA)
    generation = bench.generation()
    assert generation.committed() is None and generation.replies_of_before is not None
    generation.make(Remembered(generation.replies_of_before), bench.console)
    assert bench.answers("koala") == before and len(bench.endpoint.asked) == num_asked


def test_a_reply_that_is_damaged_is_asked_for_again(bench: Bench) -> None:
    bench.make()
    (segment,) = (Path(bench.run.uri) / "checkpoints").glob("filtered--replies-*/*.jsonl")
    *kept, last = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*kept, b"\0" * (len(last) - 1) + b"\n"]))
    assert bench.generation().replies_of_before is None


def test_what_was_answered_before_is_no_part_of_the_rate(bench: Bench) -> None:
    generation = bench.generation()
    road = EndpointRoad(bench.endpoint.base_url, None, generation.settings)
    requests, seen = list(generation.requests().values()), []
    for part in (requests[:9], requests):
        progress = Counted(bench.console)
        road(part, Ledger(bench.run.child_uri("replies")), progress)
        seen.append((progress.num_found, progress.num_made))
    # One of the others is asked first, to see whether anybody is there.
    assert seen == [(1, 8), (10, 4)]
    assert Remembered({one.key: Reply("x", "stop", 1, 1) for one in requests})(
        requests, Ledger(bench.run.child_uri("replies")), progress
    )
    assert progress.num_found == 10 + 14


class Counted(Progress):
    """Progress that keeps apart what was there and what was made."""

    num_found = num_made = 0

    def __init__(self, console: Console) -> None:
        super().__init__(console, "generate", 14, "prompts")

    def found(self, count: int = 1) -> None:
        self.num_found += count

    def advance(self, count: int = 1, *_: Any, **__: Any) -> None:
        self.num_made += count


def test_the_offline_road_asks_no_endpoint(bench: Bench) -> None:
    with pytest.raises(UserError, match="road offline asks no endpoint"):
        bench.recipe(road="offline")
