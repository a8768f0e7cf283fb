"""The ledger: whatever dies and whoever else writes, a recorded reply is found again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import Message, Reply, Request, Sampling
from alpagasus_ray.llm.ledger import Ledger


def key(number: int) -> str:
    return f"{number:064x}"


def reply(number: int) -> Reply:
    return Reply(f"{number}.5\nIt is \u2028 fine\n\ud83d\U0001f350", "stop", number, 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger"


def write(folder: Path, *numbers: int) -> Path:
    """Record replies as one writer; return its segment."""
    before = set(folder.glob("*.jsonl"))
    ledger = Ledger(folder)
    for number in numbers:
        ledger.record(key(number), reply(number))
    ledger.close()
    (segment,) = set(folder.glob("*.jsonl")) - before
    return segment


def test_what_is_recorded_is_found_by_the_next(folder: Path) -> None:
    write(folder, 1, 2)
    ledger = Ledger(folder)
    assert (ledger.lookup(key(1)), ledger.lookup(key(2))) == (reply(1), reply(2))
    assert ledger.lookup(key(3)) is None
    assert len(ledger) == 2


def test_a_writer_finds_what_it_has_recorded_itself(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.record(key(1), reply(1))
    assert ledger.lookup(key(1)) == reply(1)
    ledger.record(key(2), reply(2))
    ledger.refresh()
    assert [ledger.lookup(key(number)) for number in (1, 2)] == [reply(1), reply(2)]


def test_others_are_seen_after_a_refresh(folder: Path) -> None:
    mine, other = Ledger(folder), Ledger(folder)
    for number in range(3):
        other.record(key(number), reply(number))
        mine.refresh()
        assert mine.lookup(key(number)) == reply(number)
    write(folder, 9)
    mine.refresh()
    assert mine.lookup(key(9)) == reply(9)


def test_a_closed_ledger_can_be_written_again(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.record(key(1), reply(1))
    ledger.close()
    ledger.close()
    ledger.record(key(2), reply(2))
    assert len(Ledger(folder)) == 2


def test_a_key_recorded_twice_has_one_reply(folder: Path) -> None:
    write(folder, 1)
    write(folder, 1)
    assert Ledger(folder).lookup_many([key(1), key(2)]) == {key(1): reply(1)}


def test_only_looking_writes_nothing(folder: Path) -> None:
    ledger = Ledger(folder)
    assert ledger.lookup(key(1)) is None
    ledger.close()
    assert not folder.exists()


def test_being_ready_to_write_leaves_nothing(folder: Path) -> None:
    Ledger(folder).prepare()
    assert list(folder.iterdir()) == []


def test_every_cut_of_the_last_line_loses_that_line_alone(folder: Path) -> None:
    segment = write(folder, 1, 2, 3)
    whole = segment.read_bytes()
    last = whole.rindex(b"{", 0, whole.rindex(b'"reply"'))
    for end in range(last + 1, len(whole)):
        segment.write_bytes(whole[:end])
        ledger = Ledger(folder)
        assert [ledger.lookup(key(number)) for number in (1, 2, 3)] == [reply(1), reply(2), None]


def test_a_line_that_is_still_being_written_is_taken_in_when_it_is_whole(folder: Path) -> None:
    segment = write(folder, 1, 2)
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-5])
    ledger = Ledger(folder)
    assert ledger.lookup(key(2)) is None
    segment.write_bytes(whole)
    ledger.refresh()
    assert ledger.lookup(key(2)) == reply(2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage",
        b"",
        b"\0" * 4096,
        b"\xff\xfe",
        b"5",
        b"null",
        b"[]",
        b"{}",
        b'{"key": 5, "reply": {}}',
        b'{"key": "no hex", "reply": {}}',
        b'{"key": null}',
        b'{"key": "' + b"0" * 63 + b"9" + b'"}',
        b'{"key": "' + b"0" * 63 + b"9" + b'", "reply": null}',
        b'{"key": "' + b"0" * 63 + b"9" + b'", "reply": {}}',
        b'{"key": "' + b"0" * 63 + b"9" + b'", "reply": {"text": "from a later version", "mood": "fine"}}',
        b'{"key": "' + b"0" * 63 + b"1",
    ],
)
def test_garbage_between_lines_loses_nothing_else(folder: Path, garbage: bytes) -> None:
    segment = write(folder, 1, 2)
    first, second = [line for line in segment.read_bytes().split(b"\n") if line]
    segment.write_bytes(first + b"\n" + garbage + b"\n" + second + b"\n")
    segment.with_suffix(".index").unlink()  # as after a crash
    ledger = Ledger(folder)
    assert [ledger.lookup(key(number)) for number in (1, 2, 9)] == [reply(1), reply(2), None]


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    write(folder, 1)
    (folder / "README.txt").write_text('{"key": "00", "reply": {}}\n')
    (folder / "nested").mkdir()
    assert len(Ledger(folder)) == 1
    assert (folder / "README.txt").exists()


def test_what_cannot_be_a_ledger_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "ledger", "what://bucket/ledger"):
        with pytest.raises(UserError, match="ledger"):
            Ledger(place).prepare()


def test_the_home_folder_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Ledger("~/ledger").prepare()
    assert (tmp_path / "home" / "ledger").is_dir()


# Other processes.


PROGRAM = """
import os, signal, sys
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
ledger = Ledger(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    ledger.record(f"{number:064x}", Reply("x" * (number % 5000), "stop", number, 1))
    os.write(1, f"{number}\\n".encode())
"""


def start(folder: Path, first: int, end: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder), str(first), str(end)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


def test_writers_in_several_processes_lose_nothing(folder: Path) -> None:
    writers = [start(folder, 500 * number, 500 * (number + 1)) for number in range(3)]
    for writer in writers:
        writer.communicate(timeout=300)
        assert writer.returncode == 0
    ledger = Ledger(folder)
    found = [ledger.lookup(key(number)) for number in range(1500)]
    assert [one and one.prompt_tokens for one in found] == list(range(1500))


def test_a_killed_writer_loses_no_recorded_reply(folder: Path) -> None:
    writer = start(folder, 0, 10_000_000)
    assert writer.stdout is not None
    printed = [int(writer.stdout.readline()) for _ in range(300)]
    os.kill(writer.pid, signal.SIGKILL)
    rest, _ = writer.communicate(timeout=300)
    printed += [int(number) for number in rest.split(b"\n")[:-1]]
    assert writer.returncode == -signal.SIGKILL
    ledger = Ledger(folder)
    lost = [number for number in printed if ledger.lookup(key(number)) is None]
    assert (len(printed) >= 300, lost) == (True, [])


FULL_DISK = """
import resource, sys
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
ledger = Ledger(sys.argv[1])
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
full = 0
for number in range(100):
    if number == 60:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    try:
        ledger.record(f"{number:064x}", Reply("x" * 100, "stop", number, 1))
    except OSError:
        full += 1
    else:
        print(number)
assert full
"""


def test_a_disk_that_was_full_for_a_while_loses_no_recorded_reply(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    recorded = [int(number) for number in done.stdout.split()]
    assert 0 in recorded
    assert 99 in recorded
    ledger = Ledger(folder)
    assert [number for number in recorded if ledger.lookup(key(number)) is None] == []


# Keys.


REQUEST = Request(
    (Message("system", "Be fair."), Message("user", "Grade \u00fc.")), "gpt-4-0613", Sampling(256, 0.0, 1.0)
)


def test_the_key_of_a_request_never_changes() -> None:
    """Replies that were paid for in earlier runs are found by it."""
    assert REQUEST.key == "0e783fa830242129a046763012b4a596ef4824e2fe99c416188d2952af993e33"


def test_a_key_is_64_hexadecimal_digits() -> None:
    assert bytes.fromhex(REQUEST.key).hex() == REQUEST.key
    assert len(REQUEST.key) == 64
    assert Request((Message("user", "\ud83d"),), "m", Sampling(1)).key != REQUEST.key


TEXTS = st.sampled_from(["", "a", "b", "ab", '"', "user", "1"])
REQUESTS = st.builds(
    Request,
    messages=st.lists(st.builds(Message, role=TEXTS, content=TEXTS), max_size=2).map(tuple),
    model=TEXTS,
    sampling=st.builds(
        Sampling,
        max_tokens=st.integers(1, 2),
        temperature=st.sampled_from([0.0, 0.5]),
        top_p=st.sampled_from([1.0, 0.5]),
        stop=st.lists(TEXTS, max_size=2).map(tuple),
    ),
    raw_prompt=st.booleans(),
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(REQUESTS, REQUESTS)
def test_two_requests_share_a_key_only_where_they_are_equal(one: Request, two: Request) -> None:
    assert (one.key == two.key) is (one == two)


@pytest.mark.parametrize(
    "changed",
    [
        Request(REQUEST.messages[::-1], REQUEST.model, REQUEST.sampling),
        Request(REQUEST.messages[1:], REQUEST.model, REQUEST.sampling),
        Request(REQUEST.messages, "gpt-4", REQUEST.sampling),
        Request(REQUEST.messages, REQUEST.model, Sampling(257, 0.0, 1.0)),
        Request(REQUEST.messages, REQUEST.model, Sampling(256, 0.1, 1.0)),
        Request(REQUEST.messages, REQUEST.model, Sampling(256, 0.0, 0.9)),
        Request(REQUEST.messages, REQUEST.model, Sampling(256, 0.0, 1.0, ("\n",))),
        Request(REQUEST.messages, REQUEST.model, Sampling(256, 0.0, 1.0, seed=0)),
        Request(REQUEST.messages, REQUEST.model, REQUEST.sampling, raw_prompt=True),
    ],
)
def test_whatever_is_sent_shapes_the_key(changed: Request) -> None:
    assert changed.key != REQUEST.key


def test_a_reply_is_plain_json() -> None:
    plain: dict[str, Any] = json.loads(json.dumps(reply(3).to_dict()))
    assert Reply(**plain) == reply(3)
