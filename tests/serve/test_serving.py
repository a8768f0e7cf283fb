"""Real models behind a real endpoint: Ray Serve, vLLM and the official client. One story, told in order."""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import ray
import torch
from peft import PeftModel
from pyarrow import fs
from ray import serve
from transformers import AutoModelForCausalLM, AutoTokenizer

from alpagasus_ray.console import Progress, plain_console
from alpagasus_ray.corpus.template import render_prompt
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.roads import EndpointRoad
from alpagasus_ray.llm.chat import Message, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.recipe import GenerateSettings, ServeSettings
from alpagasus_ray.recipe_training import LoraSettings
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.serving import serving
from alpagasus_ray.train.adapters import save_adapter, with_adapter
from tests.object_store import object_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEXTS = [f"Sort these {i} words. Add {i} and {i + 2}. Name a fruit, a day, a colour." for i in range(200)]
PROMPTS = ["Sort these words", "Add 7 and 9.", "Name a fruit, a", "### Response: Grüße 你"]
NUM_TOKENS = 16
KEY_ENV, KEY = "ALPAGASUS_TEST_KEY", "sk-the-owners-own"
LONGEST_ANSWER_TOKENS = 64
LOST_FOR_S = 90.0
"""A replica is started again within this time, on a machine with other work too."""


@dataclass
class Service:
    folders: dict[str, Path]
    """Of all that is served: as it is on this machine."""
    endpoint: Endpoint
    lines: list[str]
    stack: ExitStack
    processes: list[psutil.Process] = field(default_factory=list)

    def client(self, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.endpoint.base_url, api_key=key, max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models, and two adapters of the first."""
    from alpagasus_ray.train.models import load_tokenizer
    from alpagasus_ray.train.prompting import PROMPTINGS
    from alpagasus_ray.train.tiny_model import build_tiny_model

    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("filtered", "random-9.2k")):
        build_tiny_model(folder / name, TEXTS, seed=seed)
        tokenizer = load_tokenizer(str(folder / name))
        tokenizer.chat_template = PROMPTINGS["alpaca"](tokenizer).chat_template()
        tokenizer.save_pretrained(folder / name)
    for seed, name in enumerate(("poet", "cook")):
        make_adapter(folder / "filtered", folder / name, seed)
    return {name: folder / name for name in ("filtered", "random-9.2k", "poet", "cook")}


def make_adapter(base: Path, folder: Path, seed: int) -> None:
    """Write an adapter that changes the answers: a new one's second half is all noughts."""
    model = with_adapter(AutoModelForCausalLM.from_pretrained(base), LoraSettings(rank=8))
    torch.manual_seed(seed)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.5)
    save_adapter(model, model.state_dict(), folder)


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> Iterator[list[ServedModel]]:
    """The same, one of the models and one of the adapters in an object store."""
    with object_store("models") as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(folders["poet"].parent / "cache"))
        served = []
        for name, folder in folders.items():
            place = str(folder)
            if name in ("random-9.2k", "cook"):
                place = address.replace("NAME", name)
                filesystem, root = fs.FileSystem.from_uri(place)
                fs.copy_files(str(folder), root, destination_filesystem=filesystem)
            served.append(ServedModel(name, place))
        yield served


@pytest.fixture(scope="module")
def cluster(models: list[ServedModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Started behind the object store, whose credentials its processes have."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CXX", "/there/is/no/compiler")  # as in most images that one serves from
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("nothing_compiled")))
        # Two CPUs for an ingress and two replicas, whatever this machine has: the shares must fit.
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def service(cluster: None, models: list[ServedModel], folders: dict[str, Path]) -> Iterator[Service]:
    lines: list[str] = []
    settings = ServeSettings(
        port=0,
        api_key_env=KEY_ENV,
        max_answer_tokens=LONGEST_ANSWER_TOKENS,
        replica_wait_s=LOST_FOR_S,
    )
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        environment.setenv(KEY_ENV, KEY)
        endpoint = stack.enter_context(serving(models, settings, report=lines.append))
        yield Service(folders, endpoint, lines, stack, engine_processes())


def engine_processes() -> list[psutil.Process]:
    """Return our replicas' and engines' processes that run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = f"{process.name()} {' '.join(process.cmdline())}"
            if process.status() != psutil.STATUS_ZOMBIE and ("VLLM" in title or "REPLICA" in title.upper()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that run; where nobody reaps orphans, the dead remain as zombies."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def progress_of(count: int) -> Progress:
    return Progress(plain_console(), "answers", count, "prompts")


def greedy_by_transformers(folder: Path, base: Path, prompt: str) -> list[int]:
    """Return the token ids that transformers itself generates, with peft where the folder is an adapter."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    if folder != base:
        model = PeftModel.from_pretrained(model, folder)
    prompt_ids = tokenizer(prompt, return_tensors="pt")
    generated = model.generate(**prompt_ids, max_new_tokens=NUM_TOKENS, do_sample=False)
    return [int(token) for token in generated[0, prompt_ids["input_ids"].shape[1] :]]


def test_every_arm_is_listed_by_name(service: Service) -> None:
    names = ["filtered", "poet", "cook", "random-9.2k"]
    assert [model.id for model in service.client().models.list()] == names
    cook = service.client().models.retrieve("cook")
    assert (cook.id, cook.owned_by, cook.to_dict()["parent"]) == ("cook", "alpagasus_ray", "filtered")
    assert 0 <= time.time() - cook.created < 3600
    assert {model.to_dict()["max_model_len"] for model in service.client().models.list()} == {1024}
    assert list(service.endpoint.model_names) == names
    assert service.lines[-1] == "every model has answered"
    assert not any(service.endpoint.base_url in line for line in service.lines), "the command says where"


def test_greedy_completions_are_those_of_transformers(service: Service) -> None:
    client = service.client()
    for name, folder in service.folders.items():
        base = service.folders["filtered"] if name in ("poet", "cook") else folder
        for prompt in PROMPTS:
            completion = client.completions.create(
                model=name,
                prompt=prompt,
                max_tokens=NUM_TOKENS,
                temperature=0,
                extra_body={"return_token_ids": True},
            )
            answer = completion.choices[0].model_dump()
            assert answer["token_ids"] == greedy_by_transformers(folder, base, prompt), (name, prompt)
            assert answer["finish_reason"] in ("stop", "length")
            assert completion.model == name
            assert completion.usage is not None
            assert completion.usage.completion_tokens == len(answer["token_ids"])


def test_the_arms_are_different_models(service: Service) -> None:
    texts = {
        service.client()
        .completions.create(model=name, prompt="Add 7", max_tokens=16, temperature=0)
        .choices[0]
        .text
        for name in service.endpoint.model_names
    }
    assert len(texts) == 4


def test_an_unknown_model_is_not_found_in_openais_words(service: Service) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        service.client().completions.create(model="fulll", prompt="Add", max_tokens=1)
    with pytest.raises(openai.NotFoundError):
        service.client().models.retrieve("fulll")
    assert caught.value.status_code == 404
    assert isinstance(caught.value.body, dict)
    assert "fulll" in caught.value.body["message"]
    assert caught.value.code == "model_not_found"


def test_a_prompt_beyond_the_models_length_is_a_bad_request(service: Service) -> None:
    with pytest.raises(openai.BadRequestError, match="1024"):
        service.client().completions.create(model="filtered", prompt="words " * 3000, max_tokens=1)


def test_without_the_key_nothing_is_said(service: Service) -> None:
    for key in ("none", f"{KEY}x"):
        client = service.client(key)
        with pytest.raises(openai.AuthenticationError) as caught:
            client.completions.create(model="filtered", prompt="Add", max_tokens=1)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
    base = service.endpoint.base_url.removesuffix("/v1")
    for path in ("docs", "openapi.json", "tokenize"):
        assert httpx.get(f"{base}/{path}").status_code == 401
    assert KEY not in repr(service.endpoint)


def test_a_bad_body_and_too_long_an_answer_are_bad_requests(service: Service) -> None:
    with pytest.raises(openai.BadRequestError):
        service.client().completions.create(model="filtered", prompt="Add", max_tokens="many")  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match=f"{LONGEST_ANSWER_TOKENS} tokens at most"):
        service.client().completions.create(model="filtered", prompt="Add", max_tokens=65)
    with pytest.raises(openai.APIStatusError, match="4 MiB"):
        service.client().completions.create(model="filtered", prompt="a" * 5_000_000, max_tokens=1)


def post(service: Service, path: str, content: str | bytes, **headers: str) -> httpx.Response:
    base = service.endpoint.base_url.removesuffix("/v1")
    own = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return httpx.post(f"{base}{path}", content=content, headers={**own, **headers}, timeout=120)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """Return an error in OpenAI's form that tells nothing of what runs behind it."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    told = error["message"]
    assert not any(word in told for word in ("\n", "ray", "Request ID", "Traceback", "exception")), told
    return dict(error)


def test_curls_own_content_type_does(service: Service) -> None:
    body = json.dumps({"model": "filtered", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    answer = post(
        service, "/v1/chat/completions", body, **{"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 200 and answer.json()["choices"][0]["message"]["content"]


def test_a_web_page_is_neither_obeyed_nor_let_read(service: Service) -> None:
    origin = {"origin": "http://evil.example"}
    body = json.dumps({"model": "filtered", "prompt": "Add", "max_tokens": 1})
    assert (
        post(service, "/v1/completions", body, **origin, **{"content-type": "text/plain"}).status_code == 415
    )
    answer = post(service, "/v1/completions", body, **origin)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "field",
    [
        '"max_tokens": NaN',
        '"seed": Infinity',
        '"seed": 1e999',
        '"prompt": "\\ud800"',
        '"stop": "\\udfff"',
        '"model": "\\ud800"',
        '"messages": [{"role": "user", "content": "\\ud800"}]',
        '"prompt": ' + "[" * 5000 + "]" * 5000,
        '"n": 0',
        '"prompt": [999999]',
        '"logprobs": 1000',
    ],
)
@pytest.mark.parametrize("path", ["completions", "chat/completions"])
def test_no_odd_body_is_a_servers_error(service: Service, field: str, path: str) -> None:
    messages = (
        '"messages": [{"role": "user", "content": "Hi"}]' if path != "completions" else '"prompt": "Hi"'
    )
    answer = post(service, f"/v1/{path}", f'{{"model": "filtered", "max_tokens": 1, {messages}, {field}}}')
    if path != "completions" and '"prompt"' in field and "[" in field[:12]:
        assert answer.status_code in (200, 400), "a field that chats have not"
        return
    assert answer.status_code == 400 or (answer.status_code == 200 and "logprobs" in field)
    if answer.status_code == 400:
        assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/tokenize", "/v1/embeddings", "/v1/nowhere", "/v1/models"])
def test_what_is_not_there_is_refused_in_openais_words(service: Service, path: str) -> None:
    answer = post(service, path, json.dumps({"model": "nope", "prompt": "a", "input": "a"}))
    assert answer.status_code == (405 if path == "/v1/models" else 404)
    assert error_of(answer)["message"]


def test_many_answers_of_one_request_count_together(service: Service) -> None:
    client = service.client()
    with pytest.raises(openai.BadRequestError, match=f"{LONGEST_ANSWER_TOKENS} tokens at most, all 200"):
        client.completions.create(model="filtered", prompt="Add", n=200, temperature=1, max_tokens=64)
    with pytest.raises(openai.BadRequestError, match="all 300"):
        client.completions.create(model="filtered", prompt=["Add"] * 300, max_tokens=64)
    messages: Any = [{"role": "user", "content": "Hi"}]
    several = client.chat.completions.create(model="filtered", messages=messages, n=4, temperature=1)
    assert several.usage is not None and several.usage.completion_tokens <= LONGEST_ANSWER_TOKENS


def test_a_chat_that_fills_the_context_gets_what_is_left_of_it(service: Service) -> None:
    tokenizer = AutoTokenizer.from_pretrained(service.folders["filtered"])
    words = 1
    while len(tokenizer(render_prompt("word " * (words + 1), ""))["input_ids"]) < 1000:
        words += 1
    messages: Any = [{"role": "user", "content": "word " * words}]
    answer = service.client().chat.completions.create(model="filtered", messages=messages, temperature=0)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 1024 - LONGEST_ANSWER_TOKENS
    assert answer.usage.total_tokens <= 1024


def test_web_sockets_are_refused(service: Service) -> None:
    host, _, port = service.endpoint.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 403 " in wire.recv(200).partition(b"\r\n")[0]


def test_a_chat_is_the_completion_of_the_prompt_of_training(service: Service) -> None:
    client, question = service.client(), "Add 7 and 9."
    greedy: Any = {"model": "filtered", "max_tokens": NUM_TOKENS, "temperature": 0}
    raw = client.completions.create(prompt=render_prompt(question, ""), **greedy).choices[0]
    messages: Any = [{"role": "user", "content": question}]
    chat = client.chat.completions.create(messages=messages, **greedy).choices[0]
    assert chat.message.content == raw.text and chat.finish_reason == raw.finish_reason
    unlimited = client.chat.completions.create(model="filtered", messages=messages, temperature=0)
    assert unlimited.usage is not None
    assert unlimited.usage.completion_tokens <= LONGEST_ANSWER_TOKENS


def test_an_adapter_chats_and_streams_like_a_model(service: Service) -> None:
    client, question = service.client(), "Add 7 and 9."
    greedy: Any = {"model": "cook", "max_tokens": NUM_TOKENS, "temperature": 0}
    raw = client.completions.create(prompt=render_prompt(question, ""), **greedy).choices[0]
    messages: Any = [{"role": "user", "content": question}]
    pieces = client.chat.completions.create(messages=messages, stream=True, **greedy)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == raw.text


def test_a_stream_says_what_a_whole_answer_does(service: Service) -> None:
    client = service.client()
    greedy: Any = {"model": "filtered", "prompt": "Add 7 and 9.", "max_tokens": NUM_TOKENS, "temperature": 0}
    pieces = [chunk.choices[0].text for chunk in client.completions.create(stream=True, **greedy)]
    assert len(pieces) > 1
    assert "".join(pieces) == client.completions.create(**greedy).choices[0].text


def test_ray_still_gathers_outputs_where_ours_are_handed_on_at_once() -> None:
    """Else each first token would wait for 50 ms again, and nobody would see why."""
    from ray.llm._internal.serve.core.server.llm_server import LLMServer

    assert inspect.isfunction(LLMServer._batch_output_stream)


def test_each_model_is_two_processes(service: Service) -> None:
    titles = [" ".join(process.cmdline()) for process in service.processes]
    assert len([title for title in titles if "EngineCore" in title]) == 2
    assert not [title for title in titles if "VLLM::Worker" in title]


def test_the_port_of_another_server_is_refused_before_anything_starts(
    service: Service, models: list[ServedModel]
) -> None:
    port = int(service.endpoint.base_url.split(":")[-1].split("/")[0])
    with (
        pytest.raises(UserError, match=f"{port} cannot be listened on"),
        serving(models, ServeSettings(port=port)),
    ):
        pass


def test_a_second_endpoint_in_one_cluster_is_refused(service: Service, models: list[ServedModel]) -> None:
    with (
        pytest.raises(UserError, match="Ray Serve runs in this cluster already"),
        serving(models, ServeSettings(port=0)),
    ):
        pass
    assert service.client().models.list().data


def test_a_killed_replica_costs_no_answer(service: Service, tmp_path: Path) -> None:
    requests = [
        Request((Message("user", f"Count from {n} on:"),), "random-9.2k", Sampling(64), raw_prompt=True)
        for n in range(240)
    ]
    road = EndpointRoad(service.endpoint.base_url, KEY, GenerateSettings(max_concurrency=16))
    undisturbed = road(requests, Ledger(tmp_path / "undisturbed"), progress_of(len(requests)))
    seen = Ledger(tmp_path / "disturbed")
    with ThreadPoolExecutor(1) as apart:
        answers = apart.submit(road, requests, Ledger(tmp_path / "disturbed"), progress_of(len(requests)))
        until_s = time.monotonic() + 120
        while not 20 <= len(seen) < len(requests):
            assert time.monotonic() < until_s and not answers.done()
            time.sleep(0.05)
            seen.refresh()
        (replica,) = [one for one in engine_processes() if "FolderServer:random" in " ".join(one.cmdline())]
        replica.kill()
        assert [one.reply for one in answers.result()] == [one.reply for one in undisturbed]
    assert all(one.reply is not None for one in undisturbed)
    engines = [one for one in engine_processes() if "EngineCore" in " ".join(one.cmdline())]
    assert len(engines) == 2, "the killed one's engine has gone with it"
    service.processes += engine_processes()


def test_a_dead_engine_is_told_at_once_and_comes_back(service: Service) -> None:
    """As when the kernel kills it for its memory: the replica lives on, with nobody behind it."""
    (replica,) = [one for one in engine_processes() if "FolderServer:filtered" in " ".join(one.cmdline())]
    (engine,) = [one for one in replica.children() if "EngineCore" in " ".join(one.cmdline())]
    engine.kill()
    killed_s = time.monotonic()
    seen: list[tuple[int, float]] = []
    body = json.dumps({"model": "filtered", "prompt": "Add", "max_tokens": 2})
    while time.monotonic() - killed_s < 240:
        asked_s = time.monotonic()
        answer = post(service, "/v1/completions", body)
        seen.append((answer.status_code, time.monotonic() - asked_s))
        if answer.status_code == 200:
            break
        error = error_of(answer)
        assert (answer.status_code, error["code"], answer.headers["retry-after"]) == (
            503,
            "model_unavailable",
            "5",
        )
        time.sleep(0.2)
    assert seen[-1][0] == 200, seen
    assert seen[0][0] == 503 and seen[0][1] < 10, seen
    assert max(wait_s for _, wait_s in seen) < LOST_FOR_S + 30, seen
    assert len(seen) < 60, "a dead engine's replica is asked for seconds, and no longer"
    other = json.dumps({"model": "random-9.2k", "prompt": "Add", "max_tokens": 2})
    assert post(service, "/v1/completions", other).status_code == 200
    service.processes += engine_processes()


def test_an_adapter_whose_weights_vllm_refuses_is_told(service: Service) -> None:
    """The engine is a new one, which has not loaded it yet."""
    from safetensors.torch import load_file, save_file

    weights = service.folders["poet"] / "adapter_model.safetensors"
    renamed = {name.replace("q_proj", "x_proj"): one for name, one in load_file(weights).items()}
    save_file(renamed, weights)
    answer = post(service, "/v1/completions", json.dumps({"model": "poet", "prompt": "Add", "max_tokens": 2}))
    assert answer.status_code == 500
    error = error_of(answer)
    assert error["code"] == "adapter_unusable" and "x_proj" in error["message"]
    good = json.dumps({"model": "cook", "prompt": "Add", "max_tokens": 2})
    assert post(service, "/v1/completions", good).status_code == 200


def test_leaving_the_context_leaves_nothing_behind(service: Service) -> None:
    assert len(service.processes) >= 5
    started_s = time.monotonic()
    service.stack.close()
    assert time.monotonic() - started_s < 15
    deadline_s = time.monotonic() + 10
    while still_running(service.processes) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert still_running(service.processes) == []
    assert ray.util.list_named_actors(all_namespaces=True) == []
    port = int(service.endpoint.base_url.split(":")[-1].split("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_weights_that_do_not_fit_the_config_end_the_wait_with_the_cause(
    cluster: None, models: list[ServedModel], tmp_path: Path
) -> None:
    """Also shows that one Ray can serve a second time."""
    folder = tmp_path / "wider"
    shutil.copytree(models[0].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    doubled = {key: 2 * config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads")}
    (folder / "config.json").write_text(json.dumps(config | doubled))
    with (
        pytest.raises(UserError) as caught,
        serving([ServedModel("wider", str(folder))], ServeSettings(port=0)),
    ):
        pass
    assert str(caught.value).startswith(f'"wider" ({folder}) cannot be served: ')
    assert "size of tensor" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert serve.status().applications == {}
    assert ray.util.list_named_actors(all_namespaces=True) == []
