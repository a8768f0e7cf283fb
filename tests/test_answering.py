"""Training, serving and generation agree on the tokens of a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from alpagasus_ray.answering import ONE_PROCESS, check_token_parity, offline_engine, offline_road
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.generating import Generation
from alpagasus_ray.manifests import Made
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.engine_settings import without_server_arguments
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.whole_answers import WholeAnswers
from tests.loopback import Body, LoopbackServer


@pytest.fixture
def generation(run: RunDirectory, tmp_path: Path) -> Generation:
    """Twelve prompts for a model that is there."""
    prompts = tmp_path / "koala.jsonl"
    rows = [{"id": f"k{number}", "prompt": f"Count {'up ' * number}to {number}."} for number in range(12)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = parse_recipe({"generate": {"testsets": [str(prompts)]}})
    run.make(run.model("full"), "train", {"template": "alpaca"}, {}, lambda: Made())
    return Generation(run, recipe, "full")


def test_an_endpoint_with_the_tokens_of_training_is_let_be(
    generation: Generation, endpoint: LoopbackServer, tiny_model: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    seen: list[str] = []

    def answer(body: Body, before: int) -> web.Response:
        seen.append(body["prompt"])
        assert body["return_token_ids"] and body["max_tokens"] == 1
        choice = {"text": "", "prompt_token_ids": tokenizer.encode(body["prompt"]).ids}
        return web.json_response({"choices": [choice]})

    endpoint.fault = answer
    check_token_parity(Endpoint(endpoint.base_url, ("full",)), generation, str(tiny_model))
    assert len(set(seen)) == 12


def test_a_template_around_the_prompt_is_found(
    generation: Generation, endpoint: LoopbackServer, tiny_model: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))

    def answer(body: Body, before: int) -> web.Response:
        ids = tokenizer.encode(body["prompt"] + " ").ids
        return web.json_response({"choices": [{"text": "", "prompt_token_ids": ids}]})

    endpoint.fault = answer
    with pytest.raises(UserError, match=r"full: the endpoint sees other tokens than training wrote"):
        check_token_parity(Endpoint(endpoint.base_url, ("full",)), generation, str(tiny_model))


def test_an_endpoint_that_does_not_tell_its_tokens_is_let_be(
    generation: Generation, endpoint: LoopbackServer, tiny_model: Path
) -> None:
    endpoint.reply = lambda body: "Five."
    check_token_parity(Endpoint(endpoint.base_url, ("full",)), generation, str(tiny_model))


def test_a_prompt_that_is_refused_is_told_when_it_is_asked(
    generation: Generation, endpoint: LoopbackServer, tiny_model: Path
) -> None:
    endpoint.fault = lambda body, before: web.json_response({"error": {"message": "too long"}}, status=400)
    check_token_parity(Endpoint(endpoint.base_url, ("full",)), generation, str(tiny_model))


def test_the_offline_engine_makes_one_output_of_an_answer_and_no_statistics(tiny_model: Path) -> None:
    model = ServedModel("full", str(tiny_model))
    engine = offline_engine(model, ServeSettings(), {"CPU": 2.0})
    assert engine.output_kind is WholeAnswers and engine.arguments["disable_log_stats"] is True
    own = ServeSettings(engine={"disable_log_stats": False})
    assert offline_engine(model, own, {"CPU": 2.0}).arguments["disable_log_stats"] is False


def test_the_offline_engine_knows_what_ends_an_answer(tiny_model: Path) -> None:
    engine = offline_engine(ServedModel("full", str(tiny_model)), ServeSettings(), {"CPU": 2.0})
    assert engine.end_ids and engine.max_length_tokens
    assert engine.bundle == {"CPU": 0.3} and "enforce_eager" in engine.arguments
    assert engine.arguments["distributed_executor_backend"] == ONE_PROCESS
    on_gpu = offline_engine(ServedModel("full", str(tiny_model)), ServeSettings(), {"GPU": 2.0})
    assert on_gpu.bundle == {"GPU": 1.0} and "distributed_executor_backend" not in on_gpu.arguments
    two = ServeSettings(engine={"tensor_parallel_size": 2})
    assert (
        "distributed_executor_backend"
        not in offline_engine(ServedModel("full", str(tiny_model)), two, {"CPU": 2.0}).arguments
    )


@pytest.mark.slow
def test_an_engine_argument_that_vllm_does_not_know_is_told(generation: Generation, tiny_model: Path) -> None:
    wrong = ServeSettings(engine={"max_num_seq": 4})
    with pytest.raises(UserError, match=r'no engine argument max_num_seq\. Did you mean "max_num_seqs"'):
        offline_road(generation, str(tiny_model), wrong, {"CPU": 2.0})
    both = ServeSettings(
        engine={"max_num_seqs": 4, "chat_template": "{{ x }}", "enable_auto_tool_choice": True}
    )
    assert without_server_arguments(both).engine == {"max_num_seqs": 4}
    road = offline_road(generation, str(tiny_model), both, {"CPU": 2.0})
    assert not {"chat_template", "enable_auto_tool_choice"} & set(road.engine.arguments)


def test_an_adapter_is_asked_offline_over_its_base(tiny_model: Path, tmp_path: Path) -> None:
    config = {"base_model_name_or_path": str(tiny_model), "r": 8}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    engine = offline_engine(ServedModel("poet", str(tmp_path)), ServeSettings(), {"CPU": 2.0})
    assert (engine.folder, engine.adapter) == (str(tiny_model), str(tmp_path))
    assert engine.arguments["enable_lora"] and engine.arguments["max_lora_rank"] == 8
    assert "chat_template" not in engine.arguments, "an engine alone knows none"


def test_an_endpoint_that_does_not_answer_is_not_let_be(
    generation: Generation, endpoint: LoopbackServer, tiny_model: Path
) -> None:
    endpoint.fault = lambda body, before: web.json_response({"error": {"message": "who?"}}, status=401)
    with pytest.raises(UserError, match=r"tokens cannot be seen: .*401: who\?"):
        check_token_parity(Endpoint(endpoint.base_url, ("full",)), generation, str(tiny_model))
