from __future__ import annotations

from alpagasus_ray.causes import MAX_LENGTH, cause_in_one_line, last_logged_cause

STATUS_MESSAGE = """The deployment failed to start 1 times in a row. See controller logs for details. Error:
Traceback (most recent call last):
  File "ray/serve/_private/replica.py", line 1, in initialize
ValueError: an earlier one

The above exception was the direct cause of the following exception:

ray.exceptions.RayTaskError(RuntimeError): \x1b[36mray::ServeReplica:app:full\x1b[39m (pid=7, ip=10.0.0.1)
  File "server.py", line 3, in start
RuntimeError: RuntimeError: The size of tensor a (256) must match the size of tensor b (128)
"""

ENGINE_LOG = """(EngineCore pid=7) INFO 11-22 07:32:15 [core.py:100] Initializing a V1 LLM engine
(EngineCore pid=7) ERROR 11-22 07:32:16 [core.py:1374] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-22 07:32:16 [core.py:1374] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-22 07:32:16 [core.py:1374]     raise ValueError("x: y")
(EngineCore pid=7) ERROR 11-22 07:32:16 [core.py:1374] torch.cuda.OutOfMemoryError: out of memory
(EngineCore pid=7) INFO 11-22 07:32:17 [core.py:1380] bye
"""


def test_the_last_exception_of_a_traceback_is_the_cause() -> None:
    assert (
        cause_in_one_line(STATUS_MESSAGE)
        == "RuntimeError: The size of tensor a (256) must match the size of tensor b (128)"
    )


def test_a_message_without_exception_gives_its_last_line() -> None:
    assert cause_in_one_line("one\ntwo words\n\n") == "two words"
    assert cause_in_one_line("") == ""


def test_a_long_cause_is_cut() -> None:
    assert len(cause_in_one_line("ValueError: " + "x" * 1000)) == MAX_LENGTH


def test_the_engine_says_why_in_its_log() -> None:
    assert last_logged_cause(ENGINE_LOG) == "torch.cuda.OutOfMemoryError: out of memory"
    assert last_logged_cause("(EngineCore pid=7) INFO 11-22 07:32:15 [core.py:100] fine\n") is None
