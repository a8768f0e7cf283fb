"""What `alpagasus serve --write-config` writes, deployed by Ray's own `serve deploy` on a running cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from tests.cluster.nodes import RAY, Cluster, free_ports, started_nodes

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]
KEY_ENV, KEY = "ALPAGASUS_TEST_KEY", "sk-the-owners-own"
LOADED_WITHIN_S = 400.0
SERVE = str(Path(RAY).with_name("serve"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """One node, in whose environment the key is."""
    monkeypatch.setenv(KEY_ENV, KEY)
    with started_nodes(tmp_path, cpus=(2,)) as started:
        yield started


def serve(cluster: Cluster, command: str, *words: str) -> str:
    """Run a command of Ray Serve's own and return what it said."""
    done = subprocess.run(
        [SERVE, command, "--address", cluster.dashboard_address, *words],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_config(model: Path, file: Path, *flags: str) -> str:
    """Write the file with the command, where the key is not known; return its text."""
    command = [sys.executable, "-m", "alpagasus_ray.cli", "serve", str(model), "--write-config", str(file)]
    subprocess.run(
        [*command, *flags], check=True, timeout=300, env={"PYTHONPATH": str(Path(__file__).parents[2])}
    )
    return file.read_text()


def wait_for_status(cluster: Cluster, *wanted: str) -> str:
    """Return the application's message once it has one of these states."""
    until_s = time.monotonic() + LOADED_WITHIN_S
    while time.monotonic() < until_s:
        application = yaml.safe_load(serve(cluster, "status"))["applications"].get("alpagasus", {})
        if application.get("status") in wanted:
            return str(application["message"])
        time.sleep(2)
    raise AssertionError(f"the application is {application}")


def test_a_written_file_is_deployed_and_asks_for_the_key(cluster: Cluster, tmp_path: Path) -> None:
    from alpagasus_ray.train.tiny_model import build_tiny_model

    model, file = tmp_path / "filtered", tmp_path / "serve.yaml"
    build_tiny_model(model, [f"Add {i} and {i + 2}. Name a fruit, a day, a colour." for i in range(200)])
    (port,) = free_ports(1)
    flags = ("--host", "0.0.0.0", "--port", str(port), "--set", "serve.max_answer_tokens=8")

    # Somebody takes the key out of the file by hand: the cluster looks once more.
    text = write_config(model, file, *flags, "--api-key-env", KEY_ENV)
    file.write_text(text.replace(f"api_key_env: {KEY_ENV}", "api_key_env: null"))
    serve(cluster, "deploy", str(file))
    assert "others can reach the endpoint" in wait_for_status(cluster, "DEPLOY_FAILED")

    write_config(model, file, *flags, "--api-key-env", "NO_SUCH_KEY")
    serve(cluster, "deploy", str(file))
    while "NO_SUCH_KEY is not set" not in wait_for_status(cluster, "DEPLOY_FAILED"):
        time.sleep(1)

    write_config(model, file, *flags, "--api-key-env", KEY_ENV)
    assert KEY not in file.read_text()
    serve(cluster, "deploy", str(file))
    wait_for_status(cluster, "RUNNING")
    base_url = f"http://127.0.0.1:{port}/v1"
    client = openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=120)
    answered = client.completions.create(model="filtered", prompt="Add 7", max_tokens=4, temperature=0)
    assert answered.usage is not None and answered.usage.completion_tokens == 4
    with pytest.raises(openai.BadRequestError, match="8 tokens at most"):
        client.completions.create(model="filtered", prompt="Add 7", max_tokens=9)
    assert httpx.get(f"{base_url}/models").status_code == 401

    serve(cluster, "shutdown", "--yes")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{base_url}/models")
