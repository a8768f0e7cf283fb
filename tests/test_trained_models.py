"""Who is served, and for whom: one endpoint at a time, and none for what was answered before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alpagasus_ray import trained_models
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.console import Console, plain_console
from alpagasus_ray.manifests import Made
from alpagasus_ray.mt_bench import running
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.serve.endpoint import Endpoint
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.ports import address_for_others
from alpagasus_ray.trained_models import TrainedModels
from tests.loopback import LoopbackServer
from tests.mt_bench.files import QUESTIONS, arm_reply, write_questions

ARMS = ("full", "filtered")


class Served(TrainedModels):
    """Trained models whose endpoint is the loopback server, and which notes what is opened."""

    server: LoopbackServer

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.opened: list[list[str]] = []
        self._is_open = False

    @contextmanager
    def _open(self, models: Sequence[ServedModel], settings: Any) -> Iterator[Endpoint]:
        assert not self._is_open, "Ray Serve runs in this cluster already"
        names = [model.name for model in models]
        self.opened.append(names)
        self._is_open = True
        yield Endpoint(self.server.base_url, tuple(names))
        self._is_open = False

    @contextmanager
    def _open_endpoint(self, models: Sequence[ServedModel]) -> Iterator[Endpoint]:
        with self._open(models, None) as endpoint:
            yield endpoint


class Room:
    def __init__(self, run: RunDirectory, console: Console, server: LoopbackServer, folder: Path) -> None:
        self.run, self.console, self.server, self._folder = run, console, server, folder
        for arm in ARMS:
            run.make(run.model(arm), "train", {"template": "alpaca"}, {}, Made)
        server.reply = arm_reply

    def models(self, *numbers: int, mt_bench: bool = False, **changed: Any) -> Served:
        """Return what asks the arms these questions."""
        path = self._folder / "mine.jsonl"
        path.write_text("".join(json.dumps({"prompt": f"Say <{number}>."}) + "\n" for number in numbers))
        bench = {"questions": write_questions(self._folder), "references": "none"} if mt_bench else None
        recipe = {
            "generate": {"testsets": [str(path)], **changed},
            "arms": {arm: {"selector": "full"} for arm in ARMS},
            **({"mt_bench": bench} if bench else {}),
        }
        models = Served(self.run, parse_recipe(recipe), RaySession(), self.console)
        models.server = self.server
        return models


@pytest.fixture
def room(
    run: RunDirectory,
    console: Console,
    endpoint: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Room:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    for module in (trained_models, running):
        monkeypatch.setattr(module, "check_token_parity", lambda *_: None)  # these models have no tokenizer
    for judging in ("score_model", "compare_models"):
        monkeypatch.setattr(running, judging, lambda *_: None)
    return Room(run, console, endpoint, tmp_path)


def test_all_that_is_missing_is_asked_of_one_endpoint(room: Room) -> None:
    models = room.models(1, 2, mt_bench=True)
    models.ask(ARMS)
    assert models.opened == [[*ARMS]]
    assert room.server.asked.total() == 2 * 2 + 2 * 2 * len(QUESTIONS)
    again = room.models(1, 2, mt_bench=True)
    again.ask(ARMS)
    assert again.opened == []


def test_nothing_is_served_for_what_was_answered_before(room: Room) -> None:
    room.models(1, 2).ask(ARMS)
    room.models(3).ask(ARMS)
    num_asked = room.server.asked.total()
    again = room.models(1, 2)
    again.ask(ARMS)
    assert again.opened == [] and room.server.asked.total() == num_asked
    assert len(room.run.read_text("answers/full/mine.jsonl").splitlines()) == 2


def test_no_engine_is_started_for_what_was_answered_before(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.models(1).ask(ARMS)
    room.models(2).ask(ARMS)

    def start(*_: Any) -> Any:
        raise AssertionError("Ray takes seconds, and vLLM more")

    monkeypatch.setattr(Served, "_offline_road", start)
    room.models(1, road="offline").ask(ARMS)
    with pytest.raises(AssertionError, match="takes seconds"):
        room.models(1, 3, road="offline").ask(ARMS)


@pytest.mark.parametrize("answered", [(), ("full",), ARMS])
def test_mt_bench_has_its_models_where_others_were_answered_before(
    room: Room, answered: Sequence[str]
) -> None:
    if answered:
        room.models(1).ask(answered)
        room.models(2).ask(answered)  # what was committed is not any more, and its replies are kept
    models = room.models(1, mt_bench=True)
    models.ask(ARMS)
    assert [sorted(names) for names in models.opened] == [sorted(ARMS)]
    assert all(room.run.manifest(room.run.mt_bench(arm)) for arm in ARMS)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_ready_line_says_where_others_reach_it(
    room: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(trained_models, "warm_up", lambda endpoint: None)
    room.console = plain_console()  # on the streams of this moment
    models = room.models(1)
    settings = models.recipe.serve.model_copy(update={"host": host, "base_model": "base"})
    models.recipe = models.recipe.model_copy(update={"serve": settings})
    models.serve([str(room.run.child_uri(room.run.model("full")))], lambda: None)
    told = capsys.readouterr()
    others = address_for_others(host)
    assert f"full at {room.server.base_url} (" in told.out
    assert ("from elsewhere" in told.out) == (others is not None) and (others or "full") in told.out
    assert "serve.base_model (base) is unused: none is an adapter" in told.err
