"""The Ray that is started here."""

from __future__ import annotations

import os

import pytest

from alpagasus_ray.ray_session import WITHOUT_DASHBOARD, RaySession


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
