"""The Ray that is started here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.ray_session import WITHOUT_DASHBOARD, RaySession
from tests.cluster.nodes import started_nodes


@pytest.mark.slow
def test_nobody_waits_for_a_dashboard_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    import ray
    from ray.dashboard.utils import get_address_for_submission_client

    with RaySession() as session:
        session.connect()
        asked = ray.remote(num_cpus=0)(get_address_for_submission_client).remote(None)
        assert ray.get(asked) == WITHOUT_DASHBOARD["RAY_API_SERVER_ADDRESS"]
    assert WITHOUT_DASHBOARD.keys().isdisjoint(os.environ), "another cluster of this process has one"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:9", "no Ray cluster at 127.0.0.1:9 (RAY_ADDRESS): Connection refused"),
        ("no-such-host.invalid:6379", "no Ray cluster at no-such-host.invalid:6379 (RAY_ADDRESS): "),
        ("http://head:8265", "RAY_ADDRESS is http://head:8265, where jobs are submitted: `alpagasus submit`"),
        ("ray://127.0.0.1:10001", "RAY_ADDRESS is ray://127.0.0.1:10001, a door for Ray's client"),
        ("SILENT", "no answer within 10 s"),
    ],
)
def test_an_address_without_a_cluster_is_said_in_one_line(
    address: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself tries for two minutes, and ends the process."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RAY_ADDRESS", address.replace("SILENT", f"127.0.0.1:{silent.getsockname()[1]}"))
        started_s = time.monotonic()
        with RaySession() as session, pytest.raises(UserError) as refused:
            session.connect()
    assert time.monotonic() - started_s < 30
    assert told in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_token_that_is_wrong_or_missing_is_said(tmp_path: Path) -> None:
    program = (
        "from alpagasus_ray.errors import UserError\n"
        "from alpagasus_ray.ray_session import RaySession\n"
        "try:\n"
        "    with RaySession() as session: session.connect()\n"
        "except UserError as error: print(error)\n"
    )
    with started_nodes(tmp_path, cpus=(1,)) as cluster:
        for changed in ({"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled"}):
            environment = {**cluster.of_commands, **changed}
            started_s = time.monotonic()
            told = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
            assert time.monotonic() - started_s < 40
            assert told.startswith(
                f"Ray at {cluster.gcs_address} cannot be reached: it wants its token: set "
            )


@pytest.mark.slow
def test_what_a_cluster_has_not_got_is_waited_for_as_long_as_the_recipe_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said: list[str] = []
    with RaySession(wait_for_nodes_s=2.0) as session:
        assert session.connect()["CPU"] > 0
        started_s = time.monotonic()
        assert session.wait_for({"GPU": 64.0}, said.append).get("GPU", 0) < 64
        assert time.monotonic() - started_s < 1, "a Ray of our own grows no more"
        monkeypatch.setenv("RAY_ADDRESS", "auto")  # as if it were a cluster's
        session.wait_for({"GPU": 64.0}, said.append)
        assert 2 <= time.monotonic() - started_s < 10
    assert len(said) == 1 and said[0].startswith("waiting up to 2 s for 64 GPU (the cluster has ")


def test_a_temporary_folder_too_deep_for_sockets_is_the_users_to_mend(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    script = (
        "from alpagasus_ray.ray_session import RaySession\n"
        "from alpagasus_ray.errors import UserError\n"
        "try:\n"
        "    with RaySession() as session: session.connect()\n"
        "except UserError as error: print('MEND', error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "TMPDIR": str(deep)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "MEND" in done.stdout and "RAY_TMPDIR=/tmp" in done.stdout, done.stderr[-1000:]
