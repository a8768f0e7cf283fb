"""What somebody is told who waits for models to load; real ones load in test_serving.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.serve.schema import ApplicationStatus

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve import serving
from alpagasus_ray.serve.engines import Engine
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.serving import _Startup

ENGINES = tuple(Engine(name, ServedModel(name, name)) for name in ("full", "filtered"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(serving, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(serving, "groups_wait_for_room", lambda: None)
    return now


def loads_until(done_s: tuple[float, float], clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the two models be loaded at these times, and the application run one second after the last."""

    def look(startup: _Startup) -> SimpleNamespace:
        runs = clock[0] > max(done_s)
        return SimpleNamespace(status=ApplicationStatus.RUNNING if runs else ApplicationStatus.DEPLOYING)

    def is_loaded(startup: _Startup, application: object, engine: Engine) -> bool:
        return clock[0] >= done_s[ENGINES.index(engine)]

    monkeypatch.setattr(_Startup, "_check_alive", look)
    monkeypatch.setattr(_Startup, "_is_loaded", is_loaded)


def test_a_long_wait_is_seen_to_go_on(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    loads_until((40.0, 70.0), clock, monkeypatch)
    lines: list[str] = []
    _Startup(ENGINES, ServeSettings(), None, 1, until_s=100.0, report=lines.append).wait_until_loaded()
    assert lines == [
        "0 of 2 models loaded after 30 s",
        "1 of 2 models loaded",
        "1 of 2 models loaded after 60 s",
        "2 of 2 models loaded",
    ]


def test_models_that_never_load_are_named(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    loads_until((5.0, 1e6), clock, monkeypatch)
    startup = _Startup(ENGINES, ServeSettings(startup_timeout_s=20), None, 1, 20.0, lambda line: None)
    with pytest.raises(UserError, match=r"After 20 s, filtered has not started: free CPUs"):
        startup.wait_until_loaded()
    assert clock[0] == 20.0
