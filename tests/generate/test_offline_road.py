"""What an engine's rows mean. The road itself is walked in tests/serve/test_exported.py."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from alpagasus_ray.console import Progress, plain_console
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.offline_road import (
    OfflineEngine,
    OfflineRoad,
    _row,
    outcome,
    within,
)
from alpagasus_ray.llm.chat import Message, Reply, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger

END = 2
ENGINE = OfflineEngine("model", {}, {}, {"CPU": 1.0}, 1, 5.0, frozenset({END}), max_length_tokens=20)


def row(*generated: int, **changed: Any) -> dict[str, Any]:
    made = {"generated_text": "Five.", "generated_tokens": generated, "num_input_tokens": 10}
    return {"__inference_error__": "", **made, **changed}


@pytest.mark.parametrize(
    ("generated", "reason"),
    [
        ((5, END), "stop"),
        ((), "stop"),
        ((5, 6), "stop"),  # a stop text
        ((5, 6, 7, END), "stop"),
        ((5, 6, 7, 8), "length"),
    ],
)
def test_an_answer_was_cut_where_it_is_as_long_as_allowed(generated: tuple[int, ...], reason: str) -> None:
    asked = outcome(row(*generated), Sampling(4), ENGINE)
    assert asked.reply == Reply("Five.", reason, 10, len(generated))


def test_a_stop_text_ends_an_answer_however_long_it_is() -> None:
    """The endpoint says stop, too, where the stop text comes with the last token that was allowed."""
    sampling = Sampling(4, stop=("###", "\n\n"))
    ended = outcome(row(5, 6, 7, 8, generated_text="Five.\n\n"), sampling, ENGINE)
    assert ended.reply == Reply("Five.", "stop", 10, 4)
    assert outcome(row(5, 6, 7, 8), sampling, ENGINE).reply == Reply("Five.", "length", 10, 4)
    params = _row(0, [1], sampling)["sampling_params"]
    assert params["include_stop_str_in_output"] and params["stop"] == ["###", "\n\n"]
    assert "include_stop_str_in_output" not in _row(0, [1], Sampling(4))["sampling_params"]


def test_an_answer_was_cut_where_the_model_can_go_no_further() -> None:
    long = row(5, 6, 7, num_input_tokens=17)
    assert outcome(long, Sampling(100), ENGINE).reply == Reply("Five.", "length", 17, 3)


def test_a_row_that_failed_has_its_reason() -> None:
    asked = outcome(row(__inference_error__="ValueError: too long"), Sampling(4), ENGINE)
    assert asked.reply is None and asked.failure == "refused request: ValueError: too long"


def test_what_is_answered_already_starts_no_engine(tmp_path: Path) -> None:
    request = Request((Message("user", "Add."),), "full", Sampling(4), raw_prompt=True)
    replies = Ledger(tmp_path)
    replies.record(request.key, Reply("Five.", "stop", 10, 2), "full")
    progress = Progress(plain_console(), "answers", 2, "prompts")
    asked = OfflineRoad(ENGINE, {})([request, request], replies, progress)
    assert [one.reply and one.reply.text for one in asked] == ["Five.", "Five."]


def test_an_engine_that_says_nothing_is_not_waited_for_for_ever() -> None:
    stuck = threading.Event()

    def rows() -> Iterator[dict[str, Any]]:
        yield {"number": 0}
        stuck.wait()

    answered = within(rows, 0.2)
    assert next(answered) == {"number": 0}
    with pytest.raises(UserError, match=r"No answer has come for 0\.2 s"):
        next(answered)
    stuck.set()


def test_an_engine_that_does_not_start_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Any) -> Any:
        raise RayActorError(error_msg="The actor died.\n  Traceback\nValueError: No room for the cache.\n")

    monkeypatch.setattr(OfflineRoad, "_answered", start)
    request = Request((Message("user", "Add."),), "full", Sampling(4), raw_prompt=True)
    progress = Progress(plain_console(), "answers", 1, "prompts")
    with pytest.raises(UserError, match=r"does not run: .*No room for the cache") as caught:
        OfflineRoad(ENGINE, {request.key: [1]})([request], Ledger(tmp_path), progress)
    assert "\n" not in str(caught.value)


def test_what_the_engine_raises_is_raised() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        raise ValueError("no such model")
        yield {}

    with pytest.raises(ValueError, match="no such model"):
        list(within(rows, 5))


QUIET = """
from alpagasus_ray.generate.offline_road import quieten
quieten()
import ray.data.llm, vllm
from ray.llm._internal.common.utils import download_utils
from vllm.triton_utils import importing
for logger in (download_utils.logger, importing.logger):
    logger.info("no news")
    logger.warning("%s warns", logger.name)
"""


@pytest.mark.slow
def test_the_libraries_say_nothing_that_is_no_news() -> None:
    """VLLM's import takes other loggers' levels away, and Ray's loggers each have a handler of their own."""
    ran = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    told = [line for line in (ran.stdout + ran.stderr).splitlines() if "no news" in line or "warns" in line]
    assert len(told) == 2 and all("warns" in line for line in told)
    assert "not installed" not in ran.stdout + ran.stderr
