"""The files in cluster/: read as Ray, the clouds, Kubernetes and the shell read them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.serve_config import write_serve_config
from tests.kuberay import definition, faults
from tests.serve.test_engines import make_model

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "cluster"
IN_IMAGE = "/opt/alpagasus_ray/"
LAUNCHER = ("on_prem.yaml", "aws.yaml", "gcp.yaml")
KUBERAY = {"raycluster": "RayCluster", "rayjob": "RayJob", "rayservice": "RayService"}
TEXTS = [path for path in [*CLUSTER.rglob("*"), REPOSITORY / ".dockerignore"] if path.suffix != ".pyc"]
SECRET = re.compile(
    r"sk-\w{8}|AKIA\w{12}|BEGIN .*PRIVATE KEY|\b[0-9a-f]{32,}\b|(API_KEY|AUTH_TOKEN)[=:] *['\"]?\w"
)
"""Keys of OpenAI, Anthropic and AWS, private keys, tokens of Ray, a variable that is given its value."""


def loaded(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return values


def checked(*command: str | Path, given: str | None = None) -> str:
    """Return what a program of the environment finds wrong."""
    program = str(Path(sys.executable).with_name(str(command[0])))
    done = subprocess.run(
        [program, *map(str, command[1:])], input=given, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]  # type: ignore[no-any-return]


def pinned(package: str, lock: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (REPOSITORY / "requirements" / lock).read_text(), re.MULTILINE)
    assert found, f"{lock} has no {package}"
    return found[1]


def ray_cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec.get("rayClusterConfig", spec))
    return cluster


# The launcher's files.


@pytest.mark.parametrize("name", LAUNCHER)
def test_ray_takes_the_launchers_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(loaded(name))
    validate_config(prepared)
    assert prepared["cluster_name"] == "alpagasus"
    installed = [*prepared["head_setup_commands"], *prepared["worker_setup_commands"]]
    assert installed == [], "Ray's defaults would install another Ray"


@pytest.mark.parametrize("name", LAUNCHER)
def test_no_node_of_the_launcher_starts_without_the_token(name: str) -> None:
    config = loaded(name)
    (mounted,) = config["file_mounts"]
    for kind in ("head", "worker"):
        started = [line for line in config[f"{kind}_start_ray_commands"] if "ray start" in line]
        assert len(started) == 1
        before, _, flags = started[0].partition("ray start")
        assert f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={mounted}/auth_token;" in before
        assert f". {mounted}/judges.env" in before, "the judges' keys are there when nodes start"
        assert "dashboard-host" not in flags, "the dashboard listens at the head's loopback: ssh leads there"


def test_a_token_that_is_not_there_ends_ray_start(tmp_path: Path) -> None:
    """On which the launcher's files rely."""
    ray = str(Path(sys.executable).with_name("ray"))
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "gone"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [ray, "start", "--head", "--port=0", f"--temp-dir={tmp_path / 'ray'}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "gone" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_spot_is_tried_first_and_falls_back_to_the_same_node_on_demand(name: str) -> None:
    types = loaded(name)["available_node_types"]
    spot = {one.removesuffix("_spot"): types.pop(one) for one in list(types) if one.endswith("_spot")}
    assert set(spot) == {"grading", "gpus"} and set(types) == {"head", *spot}
    assert types["head"]["resources"] == {"CPU": 0}
    for one, wanted in spot.items():
        assert wanted["priority"] > types[one].get("priority", 0)
        assert (wanted["resources"], wanted["max_workers"]) == (
            types[one]["resources"],
            types[one]["max_workers"],
        )
        assert wanted["min_workers"] == types[one]["min_workers"] == 0, "nobody pays for nodes without work"
        for node, is_spot in ((wanted, True), (types[one], False)):
            assert ("spot" in json.dumps(node["node_config"]).lower()) == is_spot
        assert without_market(wanted["node_config"]) == without_market(types[one]["node_config"])


def without_market(node_config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: one for key, one in node_config.items() if key not in ("InstanceMarketOptions", "scheduling")
    }


def test_ec2_takes_the_nodes() -> None:
    session = pytest.importorskip("botocore.session").get_session()
    from botocore.validate import ParamValidator

    request = session.get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in loaded("aws.yaml")["available_node_types"].items():
        report = ParamValidator().validate({**node["node_config"], "MinCount": 1, "MaxCount": 1}, request)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_compute_engine_takes_the_nodes() -> None:
    cache = pytest.importorskip("googleapiclient.discovery_cache")
    document = Path(cache.__file__).parent / "documents" / "compute.v1.json"
    schemas = json.loads(document.read_text())["schemas"]
    for node in loaded("gcp.yaml")["available_node_types"].values():
        assert list(unknown_to_google(node["node_config"], {"$ref": "Instance"}, schemas)) == []
    misspelt = {
        "scheduling": {"provisioningModel": "SPOTTY", "onMaintenance": "x"},
        "disks": [{"boots": True}],
    }
    found = list(unknown_to_google(misspelt, {"$ref": "Instance"}, schemas))
    assert found == ["SPOTTY", "onMaintenance", "boots"]


def unknown_to_google(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, list):
        for one in value:
            yield from unknown_to_google(one, schema["items"], schemas)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield name
            else:
                yield from unknown_to_google(inner, schema["properties"][name], schemas)
    # An enumeration that Google extends has a free type there; PERSISTENT and the like stand in `enum`.
    elif "enum" in schema and value not in schema["enum"]:
        yield str(value)


# KubeRay's.


@pytest.mark.parametrize("name", KUBERAY)
def test_kubernetes_takes_the_manifest(name: str, shared_data: Path) -> None:
    manifest = loaded(f"kuberay/{name}.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", KUBERAY[name])
    assert faults(manifest, definition(KUBERAY[name], shared_data)) == []


@pytest.mark.parametrize("name", KUBERAY)
def test_kuberays_clusters_let_no_stranger_in(name: str) -> None:
    cluster = ray_cluster(loaded(f"kuberay/{name}.yaml"))
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray[llm]=={cluster['rayVersion']}" in project()["optional-dependencies"]["gpu"]


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_kuberays_nodes_come_when_asked_for_spot_first(name: str) -> None:
    cluster = ray_cluster(loaded(f"kuberay/{name}.yaml"))
    assert cluster["enableInTreeAutoscaling"] and cluster["headGroupSpec"]["rayStartParams"] == {
        "num-cpus": "0"
    }
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert {group["minReplicas"] for group in groups.values()} == {0}
    assert groups["gpus-spot"]["priority"] > groups["gpus"].get("priority", 0)
    for pod in (group["template"]["spec"] for group in [cluster["headGroupSpec"], *groups.values()]):
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "alpagasus-judges", "optional": True}}]
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
        assert pod["securityContext"]["runAsNonRoot"]
    claim = next(yaml.safe_load_all((CLUSTER / "kuberay/storage.yaml").read_text()))
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_the_job_runs_the_cluster_that_is_shipped_alone_too() -> None:
    assert ray_cluster(loaded("kuberay/rayjob.yaml")) == ray_cluster(loaded("kuberay/raycluster.yaml"))


def test_the_job_runs_the_pipeline_with_flags_that_it_has() -> None:
    from alpagasus_ray.cli import build_parser
    from alpagasus_ray.recipe_files import load_recipe

    job = loaded("kuberay/rayjob.yaml")["spec"]["entrypoint"].split()
    assert job[:2] == ["python", f"{IN_IMAGE}jobs/pipeline.py"]
    asked = build_parser().parse_args(["run", *job[2:]])
    assert asked.run_dir == "/shared/runs/mine"
    recipe = load_recipe("demo", asked.overrides)
    assert (recipe.train.accelerator, recipe.serve.accelerator) == ("gpu", "gpu"), "its GPU nodes come later"
    assert recipe.wait_for_nodes_s >= 600


def test_the_service_is_what_the_command_writes(tmp_path: Path) -> None:
    """With `alpagasus serve s3://my-bucket/models/filtered --write-config ...`, of a model of 7B."""
    model = tmp_path / "filtered"
    make_model(model)
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(2 * 6_738_415_616)
    settings = ServeSettings(api_key_env="ALPAGASUS_KEY")
    served = [ServedModel("filtered", str(model))]
    _, file_there = write_serve_config(
        tmp_path / "serve.yaml", served, settings, "registry.example.org/alpagasus:gpu"
    )
    text = file_there.read_text().replace(str(model), "s3://my-bucket/models/filtered")
    assert (CLUSTER / "kuberay/rayservice.yaml").read_text() == text.replace(
        file_there.name, "rayservice.yaml"
    )


# The image.


def test_the_dockerfile_has_no_faults() -> None:
    assert checked("hadolint", "--no-color", CLUSTER / "Dockerfile") == ""


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert bases == ["python:3.11.14-slim-bookworm", "base", "base", "${ACCELERATOR}-packages"]
    assert [line for line in lines if line.startswith("USER")] == ["USER ${UID}"] and "ARG UID=1000" in lines
    assert not any(line.startswith("ADD") for line in lines)
    text = "\n".join(lines)
    for line in lines:
        if "pip install" in line:
            assert "--no-cache" in line and "--no-deps" in line
    (torch,) = re.findall(r"torch==([\d.]+)\+cpu", text)
    assert f"torch=={torch}" in project()["dependencies"]
    assert torch == pinned("torch", "gpu.lock")


def test_the_locks_of_the_images_have_the_rays_of_the_project() -> None:
    assert project()["optional-dependencies"]["gpu"] == [f"ray[llm]=={pinned('ray', 'gpu.lock')}"]
    for package in (
        "ray",
        "transformers",
        "openai",
        "anthropic",
        "pyarrow",
        "boto3",
        "google-api-python-client",
    ):
        assert pinned(package, "gpu.lock") == pinned(package, "cpu.lock"), package


def test_what_the_image_takes_is_there_and_let_through() -> None:
    let = {
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied: set[str] = set()
    for line in (CLUSTER / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            copied |= set(line.split()[1:-1])
    assert all((REPOSITORY / path).exists() for path in copied)
    assert {re.sub(r"\w+\.lock$", "*.lock", path) for path in copied} == let


# All of them.


def test_no_secret_stands_in_any_file() -> None:
    found = {path.name: SECRET.findall(path.read_text()) for path in TEXTS if path.is_file()}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}
    for secret in (
        "OPENAI_API_KEY=sk-abcdefgh1",
        "RAY_AUTH_TOKEN: abc",
        "export X=0123456789abcdef0123456789abcdef",
    ):
        assert SECRET.search(secret), secret


def test_the_paths_that_are_named_are_in_the_repository() -> None:
    named = re.compile(
        rf"(?<![\w./-])(?:{IN_IMAGE})?((?:jobs|requirements|cluster|alpagasus_ray)/[\w./-]*\w)"
    )
    for path in TEXTS:
        if path.is_file() and path.name != ".dockerignore":
            for name in named.findall(path.read_text()):
                if not name.startswith("cluster/my_"):
                    assert (REPOSITORY / name).exists(), f"{path.name} names {name}"


def test_the_shell_has_nothing_to_say(tmp_path: Path) -> None:
    assert checked("shellcheck", "--norc", CLUSTER / "slurm.sh") == ""
    for name in LAUNCHER:
        config = loaded(name)
        for key in ("initialization_commands", "head_start_ray_commands", "worker_start_ray_commands"):
            # SC1091: the file with the keys is on the nodes. SC2088: Ray makes the ~ whole itself.
            script = "\n".join(["#!/bin/bash", *config.get(key, [])]) + "\n"
            assert checked("shellcheck", "--norc", "-e", "SC1091,SC2088", "-", given=script) == "", (
                name,
                key,
            )
