from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve._private.constants import REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD
from ray.serve.config import AutoscalingConfig

from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.engine_settings import (
    deployment_name,
    engine_arguments,
    engine_environment,
    llm_config,
    shortage,
    uses_gpus,
)
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import ServedModel


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "float32", "max_position_embeddings": 512}))
    return Engine(str(tmp_path), ServedModel("full", str(tmp_path)))


def test_on_cpus_nothing_is_compiled_and_the_cache_is_bounded(engine: Engine) -> None:
    arguments = engine_arguments(engine, ServeSettings(kv_cache_gib=2), on_gpu=False)
    cpu = {"enforce_eager": True, "kv_cache_memory_bytes": 2 * 2**30, "max_num_seqs": 256}
    assert arguments == {"dtype": "float32", **cpu}


def test_on_gpus_vllm_decides(engine: Engine) -> None:
    assert engine_arguments(engine, ServeSettings(), on_gpu=True) == {"dtype": "auto"}


def test_a_dtype_that_was_asked_for_stays(engine: Engine) -> None:
    assert engine_arguments(engine, ServeSettings(dtype="bfloat16"), on_gpu=False)["dtype"] == "bfloat16"


@pytest.mark.parametrize(("asked", "given"), [(256, 256), (2048, 512)])
def test_the_length_is_cut_to_the_models_own(engine: Engine, asked: int, given: int) -> None:
    settings = ServeSettings(max_model_length_tokens=asked)
    assert engine_arguments(engine, settings, on_gpu=False)["max_model_len"] == given


def test_an_engine_on_cpus_answers_no_more_at_once_than_a_step_has_tokens(engine: Engine) -> None:
    settings = ServeSettings(engine={"max_num_batched_tokens": 128})
    assert engine_arguments(engine, settings, on_gpu=False)["max_num_seqs"] == 128
    settings = ServeSettings(engine={"tensor_parallel_size": 4})
    assert engine_arguments(engine, settings, on_gpu=False)["max_num_seqs"] == 1024


@pytest.mark.parametrize("name", ["max_num_batched_tokens", "max_model_len", "override_generation_config"])
def test_an_engine_argument_that_is_null_is_vllms_own(engine: Engine, name: str) -> None:
    settings = ServeSettings(engine={name: None}, max_answer_tokens=7)
    arguments = engine_arguments(engine, settings, on_gpu=False)
    assert arguments["max_num_seqs"] == 256 and arguments.get("max_model_len") is None
    assert arguments["override_generation_config"] == {"max_new_tokens": 7}


def test_the_recipes_engine_arguments_have_the_last_word(engine: Engine) -> None:
    settings = ServeSettings(engine={"enforce_eager": False, "max_num_seqs": 8})
    arguments = engine_arguments(engine, settings, on_gpu=False)
    assert (arguments["enforce_eager"], arguments["max_num_seqs"]) == (False, 8)


@pytest.mark.parametrize(("cpus", "threads"), [(0.3, "1"), (1.0, "1"), (4.0, "4")])
def test_a_replica_uses_as_many_threads_as_it_has_cpus(cpus: float, threads: str) -> None:
    environment = engine_environment(ServeSettings(cpus_per_replica=cpus), on_gpu=False)
    assert environment["OMP_NUM_THREADS"] == threads


def test_nothing_is_compiled_on_cpus_unless_the_recipe_says_so() -> None:
    name = "TORCHDYNAMO_DISABLE"
    assert engine_environment(ServeSettings(), on_gpu=False)[name] == "1"
    compiling = ServeSettings(engine={"enforce_eager": False})
    assert name not in engine_environment(compiling, on_gpu=False)


@pytest.mark.parametrize(
    ("name", "ours", "own"),
    [("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128", "1024"), ("TORCHDYNAMO_DISABLE", "1", "0")],
)
def test_the_surroundings_have_the_last_word(
    monkeypatch: pytest.MonkeyPatch, name: str, ours: str, own: str
) -> None:
    monkeypatch.delenv(name, raising=False)
    assert engine_environment(ServeSettings(), on_gpu=False)[name] == ours
    monkeypatch.setenv(name, own)
    assert engine_environment(ServeSettings(), on_gpu=False)[name] == own
    assert name not in engine_environment(ServeSettings(), on_gpu=True)


@pytest.mark.parametrize(
    ("folder", "own", "sockets"),
    [
        ("/tmp", None, None),
        ("/tmp/" + "long/" * 20, None, "/tmp"),
        ("/tmp/" + "long/" * 20, "/run/mine", None),
    ],
)
def test_sockets_have_room_wherever_the_temporary_folder_is(
    monkeypatch: pytest.MonkeyPatch, folder: str, own: str | None, sockets: str | None
) -> None:
    monkeypatch.setattr("tempfile.tempdir", folder)
    if own is not None:
        monkeypatch.setenv("VLLM_RPC_BASE_PATH", own)
    for on_gpu in (True, False):
        environment = engine_environment(ServeSettings(), on_gpu=on_gpu)
        assert environment.get("VLLM_RPC_BASE_PATH") == sockets


def test_vllm_ends_answers_at_the_limit_that_none_named(engine: Engine) -> None:
    settings = ServeSettings(max_answer_tokens=64)
    arguments = engine_arguments(engine, settings, on_gpu=True)
    assert arguments["override_generation_config"] == {"max_new_tokens": 64}
    own = {"override_generation_config": {"max_new_tokens": 32, "temperature": 0.5}}
    arguments = engine_arguments(engine, ServeSettings(max_answer_tokens=64, engine=own), on_gpu=True)
    assert arguments["override_generation_config"] == {"max_new_tokens": 32, "temperature": 0.5}
    assert "override_generation_config" not in engine_arguments(engine, ServeSettings(), on_gpu=True)


def test_a_dead_engine_is_noticed_within_seconds(engine: Engine) -> None:
    config = llm_config(engine, 0, ServeSettings(), on_gpu=True, server_class=object)["deployment_config"]
    assert config["health_check_period_s"] * REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD <= 5
    assert "health_check_timeout_s" not in config, "a loaded machine is slow to answer, and no dead one"


def test_a_relative_folder_is_made_absolute(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(engine.folder).parent)
    relative = replace(engine, folder=Path(engine.folder).name)
    config = llm_config(relative, 0, ServeSettings(), on_gpu=False, server_class=object)
    assert config["model_loading_config"] == {"model_id": "full", "model_source": engine.folder}


def test_adapters_get_room_for_all_of_them(engine: Engine) -> None:
    adapters = tuple(ServedModel(f"adapter-{number}", "") for number in range(20))
    several = replace(engine, adapters=adapters, max_rank=12, chat_template="{{ messages }}")
    assert engine_arguments(several, ServeSettings(), on_gpu=True) == {
        "dtype": "auto",
        "enable_lora": True,
        "max_lora_rank": 16,
        "max_loras": 8,
        "max_cpu_loras": 20,
        "chat_template": "{{ messages }}",
    }
    config = llm_config(several, 0, ServeSettings(), on_gpu=True, server_class=object)
    assert config["lora_config"] == {"max_num_adapters_per_replica": 20}


def test_replicas_come_and_go_where_the_recipe_says_so(engine: Engine) -> None:
    settings = ServeSettings(
        num_replicas=0, max_replicas=3, requests_per_replica=8, idle_s=90, prefix_aware=True
    )
    config = llm_config(engine, 0, settings, on_gpu=False, server_class=object)["deployment_config"]
    router = config.pop("request_router_config")
    checked = AutoscalingConfig(**config["autoscaling_config"])
    assert (checked.min_replicas, checked.initial_replicas, checked.max_replicas) == (0, 1, 3)
    assert (checked.target_ongoing_requests, checked.downscale_delay_s) == (8, 90)
    module, _, name = router["request_router_class"].rpartition(".")
    assert module == "ray.serve.llm.request_router" and name == "PrefixCacheAffinityRouter"
    assert "num_replicas" not in config


@pytest.mark.parametrize("replicas", [{"num_replicas": 0}, {"num_replicas": 3, "max_replicas": 2}])
def test_replicas_that_make_no_sense_are_refused(replicas: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="num_replicas"):
        ServeSettings.model_validate(replicas)


def test_deployments_of_like_names_are_kept_apart() -> None:
    assert deployment_name("a.b", 0) != deployment_name("a_b", 1)


@pytest.mark.parametrize(
    ("accelerator", "there_are_gpus", "expected"),
    [("auto", True, True), ("auto", False, False), ("gpu", False, True), ("cpu", True, False)],
)
def test_gpus_are_used_where_there_are_any_or_as_the_recipe_says(
    accelerator: Any, there_are_gpus: bool, expected: bool
) -> None:
    resources = {"CPU": 8.0} | ({"GPU": 1.0} if there_are_gpus else {})
    assert uses_gpus(ServeSettings(accelerator=accelerator), resources) is expected


@pytest.mark.parametrize(
    ("num_models", "settings", "resources", "on_gpu", "expected"),
    [
        (3, ServeSettings(), {"CPU": 2.0}, False, None),
        (
            3,
            ServeSettings(cpus_per_replica=1),
            {"CPU": 2.0},
            False,
            "3 models need 3.1 CPU, the cluster has 2",
        ),
        (3, ServeSettings(), {"GPU": 4.0}, True, None),
        (3, ServeSettings(), {"GPU": 2.0}, True, "3 models need 3 GPU, the cluster has 2"),
        (
            1,
            ServeSettings(num_replicas=2, engine={"tensor_parallel_size": 2}),
            {"GPU": 2.0},
            True,
            "1 model needs 4 GPU, the cluster has 2",
        ),
    ],
)
def test_what_the_cluster_lacks_is_said(
    num_models: int, settings: ServeSettings, resources: dict[str, float], on_gpu: bool, expected: str | None
) -> None:
    assert shortage(num_models, settings, resources, on_gpu=on_gpu) == expected
