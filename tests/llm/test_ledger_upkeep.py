"""A ledger in order: its indexes, its compaction, its damage; on a disk and on an object store."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm import ledger_objects, ledger_report, ledger_upkeep, ledger_writers
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_account import read_through
from alpagasus_ray.llm.ledger_upkeep import compact, tidy
from alpagasus_ray.llm.segments import EMPTY, IndexBuilder, Place, prefixes_of


def key(number: int) -> str:
    return random.Random(number).randbytes(32).hex()


def reply(number: int) -> Reply:
    return Reply(f"{number}.5\nBecause \u2028 of it.", "stop", number, 7)


def write(uri: str | Path, *numbers: int, model: str = "judge") -> None:
    ledger = Ledger(uri)
    for number in numbers:
        ledger.record(key(number), reply(number), model)
    ledger.close()


def lookup_all(uri: str | Path, count: int) -> list[Reply | None]:
    ledger = Ledger(uri)
    found = ledger.lookup_many([key(number) for number in range(count)])
    return [found.get(key(number)) for number in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture(params=["disk", "object store"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "ledger")
    bucket: str = request.getfixturevalue("bucket")
    return bucket.replace("NAME", f"ledger-{tmp_path.name}")


def test_what_is_recorded_is_found_by_the_next(uri: str) -> None:
    write(uri, 0, 1, 2)
    write(uri, 3)
    assert lookup_all(uri, 5) == [reply(0), reply(1), reply(2), reply(3), None]
    assert Ledger(uri).known([key(number) for number in range(5)]) == {key(number) for number in range(4)}


def test_the_writer_itself_finds_what_it_has_just_recorded(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.record(key(0), reply(0))
    assert ledger.lookup(key(0)) == reply(0)
    assert ledger.lookup_many([key(0), key(1)]) == {key(0): reply(0)}
    ledger.close()


def test_others_find_a_reply_within_a_second(uri: str) -> None:
    writer, reader = Ledger(uri), Ledger(uri)
    writer.record(key(0), reply(0))
    until_s = time.monotonic() + (1.0 if "://" in uri else 0.0)
    while reader.lookup(key(0)) is None and time.monotonic() <= until_s:
        time.sleep(0.05)
        reader.refresh()
    reader.refresh()
    assert reader.lookup(key(0)) == reply(0)
    writer.close()


def test_compaction_keeps_each_reply_once_in_one_file(uri: str) -> None:
    for number in range(6):
        write(uri, number, number + 1)
    done = compact(uri)
    assert (done.segments_before, done.segments_after, done.entries) == (6, 1, 7)
    assert lookup_all(uri, 8) == [*map(reply, range(7)), None]
    account = read_through(uri)
    assert (account.segments, account.entries, account.repeated) == (1, 7, 0)
    assert compact(uri).entries == 0, "there is nothing left to do"


def test_a_reader_goes_on_while_files_are_put_together(uri: str) -> None:
    write(uri, 0, 1)
    write(uri, 2)
    reader = Ledger(uri)
    compact(uri)
    assert [reader.lookup(key(number)) for number in range(3)] == [reply(0), reply(1), reply(2)]
    assert len(reader.lookup_many([key(number) for number in range(3)])) == 3


def test_a_segment_that_is_being_written_is_left_alone(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.record(key(0), reply(0))
    write(folder, 1)
    write(folder, 2)
    done = compact(str(folder))
    assert (done.still_written, done.segments_after) == (1, 2)
    ledger.record(key(3), reply(3))
    ledger.close()
    assert lookup_all(folder, 4) == list(map(reply, range(4)))


DIES = """
import os, random, sys
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
ledger = Ledger(sys.argv[1])
for number in range(100):
    ledger.record(random.Random(number).randbytes(32).hex(), Reply(f"{number}", "stop", number, 1))
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_writer_left_is_put_together_too(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(folder)], timeout=60, check=False)
    (segment,) = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-9])  # the last line cut in half
    assert read_through(str(folder)).cut_lines == 1
    done = compact(str(folder))
    assert (done.entries, done.dropped_lines, done.still_written) == (99, 1, 0)
    assert sum(one is not None for one in lookup_all(folder, 100)) == 99


def test_a_compaction_that_dies_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        write(folder, number)
    real = ledger_upkeep.LedgerFiles.remove_segment
    removed: list[str] = []

    def die_after_two(files: ledger_upkeep.LedgerFiles, name: str) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(name)
        real(files, name)

    monkeypatch.setattr(ledger_upkeep.LedgerFiles, "remove_segment", die_after_two)
    with pytest.raises(KeyboardInterrupt):
        compact(str(folder))
    monkeypatch.undo()
    assert lookup_all(folder, 4) == list(map(reply, range(4)))
    assert read_through(str(folder)).repeated == 2
    compact(str(folder))
    assert read_through(str(folder)).repeated == 0


def test_an_index_takes_the_place_of_the_keys_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writers, "MIN_UNINDEXED", 10)
    writer = Ledger(folder)
    for number in range(105):
        writer.record(key(number), reply(number))
    reader = Ledger(folder)
    (segment,) = reader._segments.values()
    assert len(segment.index) == 100
    assert len(segment.fresh) == 5
    assert lookup_all(folder, 106) == [*map(reply, range(105)), None]
    for number in range(105, 130):
        writer.record(key(number), reply(number))
    reader.refresh()
    assert len(segment.fresh) < 10
    assert [reader.lookup(key(number)) for number in range(130)] == list(map(reply, range(130)))
    assert [writer.lookup(key(number)) for number in range(130)] == list(map(reply, range(130)))
    writer.close()


def test_a_full_segment_is_followed_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writers, "MAX_SEGMENT_ENTRIES", 20)
    write(folder, *range(50))
    assert len(list(folder.glob("*.jsonl"))) == 3
    assert lookup_all(folder, 50) == list(map(reply, range(50)))


@pytest.mark.parametrize("damage", [b"", b"garbage", b"ARROW1\0\0" + b"\0" * 100])
def test_an_index_that_cannot_be_read_is_done_without(folder: Path, damage: bytes) -> None:
    write(folder, 0, 1)
    for file in list(folder.iterdir()):  # as if another process had written it, and died
        file.rename(folder / re.sub(r"\d+-(?=[0-9a-f]+\.)", "1-", file.name))
    (index,) = folder.glob("*.index")
    index.write_bytes(damage)
    assert lookup_all(folder, 3) == [reply(0), reply(1), None]
    with pytest.raises(UserError, match="1 indexes fit no file"):
        ledger_report.verify(str(folder.parent))
    compact(str(folder))
    assert "2 replies in 1 files can be read" in ledger_report.verify(str(folder.parent))


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoil_a_line(data: bytes) -> bytes:
    return data.replace(b'"stop"', b'"st\0p"', 1)


def spoil_a_key(data: bytes) -> bytes:
    place = data.index(b'"key": "') + 8
    return data[:place] + (b"1" if data[place : place + 1] == b"0" else b"0") + data[place + 1 :]


def take_a_line_out(data: bytes) -> bytes:
    first, _, rest = data.partition(b"\n")
    return b" " * len(first) + b"\n" + rest


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("spoil", [cut_in_half, spoil_a_line, spoil_a_key, take_a_line_out])
def test_a_compaction_mends_what_verify_complains_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[bytes], bytes], is_large: bool
) -> None:
    write(folder, *range(10))
    write(folder, *range(10, 20))
    compact(str(folder))
    if is_large:
        monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENT_ENTRIES", 30)
    (segment,) = folder.glob("*.jsonl")
    segment.write_bytes(spoil(segment.read_bytes()))
    with pytest.raises(UserError, match="ledger compact"):
        ledger_report.verify(str(folder.parent))
    ledger_report.compact_all(str(folder.parent))
    assert "in 1 files can be read" in ledger_report.verify(str(folder.parent))
    num_found = sum(one is not None for one in lookup_all(folder, 20))
    assert num_found >= (9 if spoil is cut_in_half else 19)
    assert compact(str(folder)).entries == 0, "there is nothing left to do"


def test_a_large_segment_that_a_full_disk_left_a_cut_line_in_is_put_right_without_being_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writers, "MIN_UNINDEXED", 10)
    ledger = Ledger(folder)
    for number in range(40):
        if number == 20:  # as a disk that is full leaves it
            (segment,) = folder.glob("*.jsonl")
            with segment.open("ab") as file:
                file.write(b'\n{"key": "00')
            assert isinstance(ledger._writer, ledger_writers.LocalWriter)
            ledger._writer._size_bytes += 12
        ledger.record(key(number), reply(number))
    ledger.close()
    write(folder, 40)
    write(folder, 41)
    monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENT_ENTRIES", 60)
    monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENTS", 1)
    assert read_through(str(folder)).bad_lines == 1
    tidy(str(folder))
    assert read_through(str(folder)).bad_lines == 0
    assert lookup_all(folder, 42) == list(map(reply, range(42)))


def test_many_large_segments_are_no_reason_to_put_any_together(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in range(0, 60, 20):
        write(folder, *range(first, first + 20))
    write(folder, 60)
    before = sorted(folder.glob("*.jsonl"))
    monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENT_ENTRIES", 30)
    monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENTS", 1)
    tidy(str(folder))
    assert sorted(folder.glob("*.jsonl")) == before
    write(folder, 61)
    tidy(str(folder))
    assert len(set(folder.glob("*.jsonl")) & set(before)) == 3, "the small ones alone"
    assert lookup_all(folder, 62) == list(map(reply, range(62)))


def test_a_large_segment_that_is_sound_is_left_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, *range(40))
    (large,) = folder.glob("*.jsonl")
    for number in range(40, 44):
        write(folder, number)
    monkeypatch.setattr(ledger_upkeep, "MAX_SEGMENT_ENTRIES", 60)
    assert compact(str(folder)).entries == 4
    assert large.exists()
    assert lookup_all(folder, 44) == list(map(reply, range(44)))


def test_a_reader_keeps_what_it_knew_when_the_index_is_newer_than_the_listing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_writers, "MIN_UNINDEXED", 10)
    writer = Ledger(folder)
    for number in range(12):
        writer.record(key(number), reply(number))
    reader = Ledger(folder)
    listing, real = reader.files.listing(), reader.files.listing
    for number in range(12, 24):
        writer.record(key(number), reply(number))
    (name,) = listing.segments
    newer = replace(listing, indexes={name: real().indexes[name]})
    reader.files.listing = lambda: newer  # type: ignore[method-assign]
    reader.refresh()
    assert [reader.lookup(key(number)) for number in range(12)] == list(map(reply, range(12)))
    reader.files.listing = real  # type: ignore[method-assign]
    reader.refresh()
    assert [reader.lookup(key(number)) for number in range(24)] == list(map(reply, range(24)))
    writer.close()


def test_a_writer_whose_segment_was_merged_away_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an hour without a reply, by a host that cannot see whether it lives."""
    writer = Ledger(folder)
    writer.record(key(0), reply(0))
    write(folder, 1)
    monkeypatch.setattr(ledger_upkeep, "has_ended", lambda name, idle_s: True)
    compact(str(folder))
    assert writer.lookup(key(0)) == reply(0)
    writer.record(key(2), reply(2))
    compact(str(folder))
    writer.record(key(3), reply(3))
    assert writer.known([key(number) for number in range(4)]) == {key(number) for number in range(4)}
    writer.close()
    assert lookup_all(folder, 5) == [*map(reply, range(4)), None]


def test_many_small_objects_are_put_together_by_their_writer(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_objects, "FLUSH_EVERY_S", 0.02)
    monkeypatch.setattr(ledger_objects, "MAX_PARTS", 4)
    uri = bucket.replace("NAME", f"small-{tmp_path.name}")
    ledger = Ledger(uri)
    for number in range(60):
        ledger.record(key(number), reply(number))
        time.sleep(0.01)
    ledger.close()
    assert len(Ledger(uri).files.listing().segments) < 15
    assert lookup_all(uri, 61) == [*map(reply, range(60)), None]


def test_what_is_there_is_told_by_model(folder: Path) -> None:
    write(folder / "one", 1, 2, model="gpt-x")
    write(folder / "one", 3, model="gpt-y")
    write(folder / "two", 4)
    shown = ledger_report.show(str(folder))
    assert "one: 3 replies" in shown
    assert "gpt-x: 2 replies, 3 prompt and 14 completion tokens" in shown
    assert "two: 1 replies" in shown
    with pytest.raises(UserError, match="nothing is kept there"):
        ledger_report.show(str(folder / "three"))


KEYS = st.lists(st.binary(min_size=32, max_size=32), unique=True, max_size=40)


@settings(deadline=None)
@given(KEYS, KEYS)
def test_an_index_holds_what_was_put_in_and_nothing_else(inside: list[bytes], others: list[bytes]) -> None:
    builder = IndexBuilder()
    for number, one in enumerate(inside):
        builder.add(one, Place(number * 10, number))
    index = EMPTY.extended(builder, 1000, is_closed=True)
    for number, one in enumerate(inside):
        assert Place(number * 10, number) in index.places(one)
    asked = [*inside, *others]
    held = index.holds(prefixes_of([one.hex() for one in asked])).tolist()
    heads = {one[:8] for one in inside}
    assert held == [one[:8] in heads for one in asked]


def test_ten_writers_and_a_compaction_at_once_lose_nothing(folder: Path) -> None:
    def work(first: int) -> None:
        for start in range(first, first + 50, 10):
            write(folder, *range(start, start + 10))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 500, 50)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        compact(str(folder))
    assert lookup_all(folder, 500) == list(map(reply, range(500)))
