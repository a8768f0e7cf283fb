"""The files by which a cluster serves: read back as Ray Serve and Kubernetes read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.engines import checked_engines
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.rayservice import SECRET, settings_on_kubernetes
from alpagasus_ray.serve.serve_config import (
    IMPORT_PATH,
    read_arguments,
    serve_config,
    to_yaml,
    write_serve_config,
)
from tests.kuberay import definition, faults
from tests.serve.test_engines import make_adapter, make_model
from tests.shell import Shell, complaint

KEY_ENV, KEY = "ALPAGASUS_TEST_KEY", "sk-the-owners-own"
IMAGE = "registry.example.org/alpagasus:1"


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    return make_model(tmp_path / "random-9.2k")


def written(tmp_path: Path, model: ServedModel, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a configuration and the manifest beside it, as somebody else reads them."""
    files = write_serve_config(tmp_path / "serve.yaml", [model], ServeSettings(**settings), IMAGE)
    assert [file.name for file in files] == ["serve.yaml", "serve.rayservice.yaml"]
    config, manifest = (yaml.safe_load(file.read_text()) for file in files)
    return config, manifest


def pods(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the containers of the head and of the workers."""
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    (head,), (worker,) = (group["template"]["spec"]["containers"] for group in groups)
    return head, worker


def test_the_config_is_one_application_of_serve_with_what_is_not_default(model: ServedModel) -> None:
    from ray.serve.schema import ServeDeploySchema

    settings = ServeSettings(port=8123, dtype="float32", startup_timeout_s=9, engine={"seed": 1})
    config = serve_config([model], settings)
    assert config == yaml.safe_load(to_yaml(config))
    parsed = ServeDeploySchema.model_validate(config)
    assert (parsed.proxy_location, parsed.http_options.port) == ("HeadOnly", 8123)
    assert parsed.http_options.host == "127.0.0.1"
    assert parsed.logging_config is not None and not parsed.logging_config.enable_access_log
    (application,) = parsed.applications
    assert (application.name, application.route_prefix) == ("alpagasus", "/")
    assert application.import_path == IMPORT_PATH
    assert application.args == {
        "models": {"random-9.2k": model.folder},
        "settings": {"dtype": "float32", "engine": {"seed": 1}},
    }


def test_the_application_is_found_by_its_import_path() -> None:
    from alpagasus_ray.serve import application
    from alpagasus_ray.serve.serving import APPLICATION

    module, _, function = IMPORT_PATH.partition(":")
    assert module == application.__name__ and callable(getattr(application, function))
    assert APPLICATION == "alpagasus"


@settings(max_examples=30)
@given(
    st.builds(
        ServeSettings,
        host=st.just("127.0.0.1"),
        accelerator=st.sampled_from(["auto", "gpu", "cpu"]),
        max_body_mib=st.floats(0.001, 1e6),
        max_answer_tokens=st.none() | st.integers(1, 10**6),
        api_key_env=st.sampled_from([None, "A_KEY"]),
        engine=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.text(), max_size=3),
    )
)
def test_the_cluster_reads_the_settings_that_were_written(written: ServeSettings) -> None:
    models = [ServedModel(name, f"/models of mine/{name}") for name in ("no", "1e3", "random-9.2k")]
    config = yaml.safe_load(to_yaml(serve_config(models, written)))
    assert read_arguments(config["applications"][0]["args"]) == (tuple(models), written)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "`models`"),
        ({"models": ["a"]}, "`models`"),
        ({"models": {"a": "/a"}, "port": 1}, "`settings`"),
        ({"models": {"a": "/a"}, "settings": {"dtyp": "auto"}}, '"dtype"'),
        ({"models": {"a": "/a"}, "settings": {"accelerator": "tpu"}}, "serve.accelerator"),
    ],
)
def test_arguments_that_were_spoilt_by_hand_are_told_in_one_line(args: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        read_arguments(args)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_folders_stand_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "base")
    make_adapter(tmp_path / "poet", "base")
    monkeypatch.chdir(tmp_path)
    arguments = serve_config([ServedModel("poet", "poet")], ServeSettings())["applications"][0]["args"]
    assert arguments == {
        "models": {"poet": str(tmp_path / "poet")},
        "settings": {"base_model": str(tmp_path / "base")},
    }
    monkeypatch.chdir("/")
    models, settings = read_arguments(arguments)
    assert [engine.folder for engine in checked_engines(models, settings)] == [str(tmp_path / "base")]


def test_adapters_of_several_bases_that_only_hold_here_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        make_model(tmp_path / name)
        make_adapter(tmp_path / f"of-{name}", name)
    monkeypatch.chdir(tmp_path)
    adapters = [ServedModel("of-one", "of-one"), ServedModel("of-two", "of-two")]
    with pytest.raises(UserError, match=r"one is named by a path .*--base-model"):
        serve_config(adapters, ServeSettings())


def test_a_key_in_an_address_is_not_written_down(model: ServedModel) -> None:
    for base_model, served in [("s3://id:secret@b/m", model), (None, ServedModel("m", "s3://id:secret@b/m"))]:
        with pytest.raises(UserError, match="keys come from the environment") as caught:
            serve_config([served], ServeSettings(base_model=base_model))
        assert "secret" not in str(caught.value)


def test_the_key_is_in_no_file(tmp_path: Path, model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    settings = ServeSettings(api_key_env=KEY_ENV)
    for file in write_serve_config(tmp_path / "serve.yaml", [model], settings, IMAGE):
        assert KEY not in file.read_text() and KEY_ENV in file.read_text()


def test_a_rayservice_is_what_kuberay_takes(tmp_path: Path, model: ServedModel, shared_data: Path) -> None:
    schema = definition("RayService", shared_data)
    for chosen in ({"api_key_env": KEY_ENV}, {"open_to_all": True, "accelerator": "cpu"}):
        _, manifest = written(tmp_path, model, **chosen)
        assert faults(manifest, schema) == []
        group = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
        group |= {"replicas": "1", "replcias": 1}
        assert faults(manifest, schema) == [
            "'1' is not of type 'integer'",
            ".spec.rayClusterConfig.workerGroupSpecs.replcias",
        ]


def test_a_rayservice_lets_no_stranger_in(tmp_path: Path, model: ServedModel) -> None:
    _, manifest = written(tmp_path, model, open_to_all=True)
    assert manifest["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}


def test_a_rayservice_serves_the_configuration_beside_it(tmp_path: Path, model: ServedModel) -> None:
    config, manifest = written(tmp_path, model, api_key_env=KEY_ENV, port=8123)
    assert yaml.safe_load(manifest["spec"]["serveConfigV2"]) == config
    assert "serveConfigV2: |\n" in (tmp_path / "serve.rayservice.yaml").read_text()
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8123}
    assert config["proxy_location"] == "EveryNode", "KubeRay waits for a proxy on each worker"
    assert config["applications"][0]["args"]["settings"]["accelerator"] == "gpu", "its GPU nodes come later"
    key = {"name": KEY_ENV, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": KEY_ENV}}}
    for container in pods(manifest):
        assert (container["image"], container["env"]) == (IMAGE, [key])
        assert {"name": "serve", "containerPort": 8123} in container["ports"]


def test_a_worker_holds_one_replica_of_one_model(tmp_path: Path) -> None:
    models = [make_model(tmp_path / name) for name in ("full", "filtered")]
    engine = {"tensor_parallel_size": 4}
    settings = ServeSettings(open_to_all=True, num_replicas=3, engine=engine)
    _, file = write_serve_config(tmp_path / "serve.yaml", models, settings, IMAGE)
    manifest = yaml.safe_load(file.read_text())
    group = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 6
    head, worker = pods(manifest)
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert "nvidia.com/gpu" not in head["resources"]["limits"]
    assert "env" not in head and "env" not in worker


def test_workers_come_and_go_with_the_replicas(tmp_path: Path, model: ServedModel) -> None:
    _, manifest = written(tmp_path, model, open_to_all=True, num_replicas=0, max_replicas=4)
    cluster = manifest["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (0, 1, 4)
    assert cluster["enableInTreeAutoscaling"] is True


def test_on_cpus_no_gpu_is_asked_for(tmp_path: Path, model: ServedModel) -> None:
    config, manifest = written(
        tmp_path, model, open_to_all=True, accelerator="cpu", cpus_per_replica=3, kv_cache_gib=20
    )
    assert "nvidia" not in json.dumps(manifest)
    _, worker = pods(manifest)
    assert worker["resources"]["limits"] == {"cpu": "4", "memory": "29Gi"}
    assert config["applications"][0]["args"]["settings"]["accelerator"] == "cpu"


@pytest.mark.parametrize(
    ("host", "on_kubernetes"),
    [("127.0.0.1", "0.0.0.0"), ("localhost", "0.0.0.0"), ("::1", "0.0.0.0"), ("::", "::")],
)
def test_on_kubernetes_others_reach_the_endpoint(host: str, on_kubernetes: str) -> None:
    assert settings_on_kubernetes(ServeSettings(host=host)).host == on_kubernetes


def test_the_command_writes_and_serves_nothing(shell: Shell, tmp_path: Path, model: ServedModel) -> None:
    """The key's variable need not be set here, and no run directory is left."""
    done = shell.run(
        tmp_path, "serve", model.name, "--write-config", "serve.yaml", "--api-key-env", "NO_SUCH_KEY"
    )
    assert (done.code, done.out, done.error, done.loaded) == (0, "serve.yaml\n", "", [])
    assert not (tmp_path / "runs").exists()
    config = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    assert config["applications"][0]["args"]["models"] == {model.name: model.folder}
    further = ("--api-key-env", "NO_SUCH_KEY", "--rayservice", IMAGE)
    done = shell.run(tmp_path, "serve", model.name, "--write-config", "serve.yaml", *further)
    assert done.out == "serve.yaml\nserve.rayservice.yaml\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rayservice", IMAGE], "--write-config"),
        (["--write-config", "serve.yaml", "--rayservice", IMAGE], "--api-key-env"),
        (["--write-config", "serve.yaml", "--rayservice", "", "--api-key-env", "A_KEY"], "container image"),
        (["--write-config", "serve.yaml", "--host", "0.0.0.0"], "--api-key-env"),
        (["--write-config", "serve.yaml", "--port", "0"], "--port 0"),
        (["--write-config", "gone/serve.yaml"], "gone/serve.yaml: No such file"),
        (["--write-config", "serve.yaml", "missing"], "missing"),
    ],
)
def test_what_cannot_be_served_is_told_when_it_is_written(
    shell: Shell, tmp_path: Path, model: ServedModel, arguments: list[str], says: str
) -> None:
    assert says in complaint(tmp_path, shell.run(tmp_path, "serve", model.name, *arguments))
    assert not (tmp_path / "serve.yaml").exists()
