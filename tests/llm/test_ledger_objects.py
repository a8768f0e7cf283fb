"""The ledger on an object store that is slow, or fails for a while: nothing is lost, nothing waits long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alpagasus_ray.llm import ledger as ledgers
from alpagasus_ray.llm import ledger_objects
from alpagasus_ray.llm.chat import Reply
from alpagasus_ray.llm.ledger import Ledger
from alpagasus_ray.llm.ledger_files import LedgerFiles, Listing
from alpagasus_ray.llm.ledger_upkeep import compact
from alpagasus_ray.llm.segments import Index

WAIT_S = 60.0
"""For what happens within a second on a machine that is not busy."""


def key(number: int) -> str:
    return f"{number * 2654435761 % 2**64:016x}{number:048x}"


def reply(number: int) -> Reply:
    return Reply(f"{number}.5\nBecause of it.", "stop", number, 7)


@pytest.fixture
def uri(bucket: str, tmp_path: Path) -> str:
    return bucket.replace("NAME", f"objects-{tmp_path.name}")


def found(uri: str, count: int) -> list[int]:
    """Return which numbers a new reader finds."""
    ledger = Ledger(uri)
    replies = ledger.lookup_many([key(number) for number in range(count)])
    return [number for number in range(count) if key(number) in replies]


def wait_until(is_so: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until_s, "it has not come to pass"
        time.sleep(0.01)


def fail_while(ledger: Ledger, is_gone: Callable[[], bool]) -> list[str]:
    """Let the store take nothing while it is gone; return the names that are tried."""
    real, tried = ledger.files.write_bytes, list[str]()

    def write_bytes(name: str, data: bytes) -> None:
        tried.append(name)
        if is_gone():
            raise OSError("503 Slow Down")
        real(name, data)

    ledger.files.write_bytes = write_bytes  # type: ignore[method-assign]
    return tried


def test_a_store_that_is_gone_for_a_while_loses_nothing_and_stops_nothing(uri: str) -> None:
    ledger, is_gone = Ledger(uri), threading.Event()
    is_gone.set()
    tried = fail_while(ledger, is_gone.is_set)
    for number in range(10):
        ledger.record(key(number), reply(number))
        wait_until(lambda number=number: len(tried) > number // 4)  # type: ignore[misc]
    assert [ledger.lookup(key(number)) for number in range(10)] == list(map(reply, range(10)))
    is_gone.clear()
    ledger.flush()
    assert found(uri, 11) == list(range(10))
    ledger.close()
    assert found(uri, 11) == list(range(10))


def test_a_store_that_comes_back_during_the_end_loses_nothing(uri: str) -> None:
    ledger = Ledger(uri)
    tried = fail_while(ledger, lambda: len(tried) < 3)
    ledger.record(key(0), reply(0))
    ledger.close()
    assert len(tried) >= 3
    assert found(uri, 2) == [0]


def test_a_store_that_stays_gone_is_said_and_what_is_recorded_then_is_kept_when_it_is_back(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_objects, "GIVE_UP_AFTER_S", 0.2)
    ledger, is_gone = Ledger(uri), threading.Event()
    is_gone.set()
    fail_while(ledger, is_gone.is_set)
    ledger.record(key(0), reply(0))
    with pytest.raises(OSError, match="cannot be written: 503"):
        ledger.flush()
    for number in (1, 2):
        with pytest.raises(OSError, match="cannot be written: 503"):
            ledger.record(key(number), reply(number))
    is_gone.clear()
    ledger.close()
    assert found(uri, 4) == [0, 1, 2]


def test_a_store_that_stays_gone_to_the_end_is_said(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_objects, "GIVE_UP_AFTER_S", 0.2)
    ledger = Ledger(uri)
    fail_while(ledger, lambda: True)
    ledger.record(key(0), reply(0))
    with pytest.raises(OSError, match="cannot be written: 503"):
        ledger.close()


def test_a_lookup_waits_for_a_store_that_is_gone_for_a_while(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = Ledger(uri), Ledger(uri)
    writer.record(key(0), reply(0))
    writer.close()
    real, tried = reader.files.listing, list[int]()

    def listing() -> Listing:
        tried.append(1)
        if len(tried) < 3:
            raise OSError("503 Slow Down")
        return real()

    monkeypatch.setattr(ledgers, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(ledgers, "REFRESH_SHARE", float("inf"))
    monkeypatch.setattr(reader.files, "listing", listing)
    assert reader.find([key(0), key(1)]) == {key(0): reply(0)}
    assert len(tried) == 3
    tried.clear()
    monkeypatch.setattr(ledgers, "GIVE_UP_AFTER_S", 0.0)
    with pytest.raises(OSError, match="503"):
        reader.find([key(1)])


def test_flushing_returns_when_everything_is_stored(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_objects, "FLUSH_EVERY_S", 1000.0)
    ledger = Ledger(uri)
    ledger.flush()
    for number in range(3):
        ledger.record(key(number), reply(number))
        ledger.flush()
        assert found(uri, 4) == list(range(number + 1))
    before = len(ledger.files.listing().segments)
    ledger.flush()
    assert len(ledger.files.listing().segments) == before
    ledger.close()


def test_many_threads_that_flush_share_a_request(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_objects, "FLUSH_EVERY_S", 1000.0)
    ledger, may_go_on = Ledger(uri), threading.Event()
    tried = fail_while(ledger, lambda: not may_go_on.wait(WAIT_S))
    with ThreadPoolExecutor(16) as pool:
        ledger.record(key(0), reply(0))
        done = [pool.submit(ledger.flush)]
        wait_until(lambda: bool(tried))
        for number in range(1, 16):
            ledger.record(key(number), reply(number))
            done.append(pool.submit(ledger.flush))
        may_go_on.set()
        for one in done:
            one.result(WAIT_S)
    assert len(tried) == 2
    assert found(uri, 17) == list(range(16))
    ledger.close()


def test_a_writer_always_finds_what_it_has_recorded(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between the moment when it is stored and the next look at the store."""
    monkeypatch.setattr(ledger_objects, "FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(ledger_objects, "MAX_PARTS", 3)
    ledger = Ledger(uri)
    for number in range(30):
        ledger.record(key(number), reply(number))
        if number % 2:
            ledger.flush()
        if number % 5 == 0:
            ledger.refresh()
        there = [key(one) for one in range(number + 1)]
        assert ledger.known(there) == set(there)
        assert ledger.lookup(key(number)) == reply(number)
    assert set(ledger.lookup_many(there)) == set(there)
    ledger.refresh()
    assert set(ledger.lookup_many(there)) == set(there)
    ledger.close()


def test_what_a_look_has_shown_is_not_held_in_memory_any_more(uri: str) -> None:
    ledger = Ledger(uri)
    ledger.record(key(0), reply(0))
    ledger.flush()
    ledger.record(key(1), reply(1))
    ledger.refresh()
    writer = ledger._writer
    assert writer is not None
    assert writer.find(bytes.fromhex(key(0))) is None
    assert ledger.lookup(key(0)) == reply(0)
    assert ledger.lookup(key(1)) == reply(1)
    ledger.close()


def test_storing_goes_on_while_objects_are_put_together(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow to delete holds up no reply, and is asked to delete several at a time."""
    monkeypatch.setattr(ledger_objects, "MAX_PARTS", 4)
    ledger, may_delete, deleting = Ledger(uri), threading.Event(), list[str]()
    real = ledger.files.remove

    def remove(name: str) -> None:
        deleting.append(name)
        assert may_delete.wait(WAIT_S)
        real(name)

    ledger.files.remove = remove  # type: ignore[method-assign]
    for number in range(4):
        ledger.record(key(number), reply(number))
        ledger.flush()
    wait_until(lambda: len(deleting) == 4)
    started_s = time.monotonic()
    for number in range(4, 9):
        ledger.record(key(number), reply(number))
        ledger.flush()
    assert time.monotonic() - started_s < WAIT_S
    assert not may_delete.is_set()
    assert found(uri, 10) == list(range(9))
    may_delete.set()
    ledger.close()
    assert found(uri, 10) == list(range(9))
    assert len(Ledger(uri).files.listing().segments) == 2


def test_many_threads_may_look_things_up_after_a_merge(uri: str) -> None:
    for number in range(0, 60, 10):
        ledger = Ledger(uri)
        for one in range(number, number + 10):
            ledger.record(key(one), reply(one))
        ledger.close()
    reader = Ledger(uri)
    compact(uri)
    num_listings, real = 0, reader.files.listing

    def listing() -> object:
        nonlocal num_listings
        num_listings += 1
        time.sleep(0.2)
        return real()

    reader.files.listing = listing  # type: ignore
    keys = [key(number) for number in range(60)]
    assert len(reader.lookup_many(keys)) == 60
    assert num_listings <= 2, "the threads share a look at the store"


def test_several_ledgers_of_a_process_may_fetch_an_index_at_once(uri: str) -> None:
    ledger = Ledger(uri)
    for number in range(2000):
        ledger.record(key(number), reply(number))
    ledger.close()
    ((name, state),) = ledger.files.listing().indexes.items()
    for _ in range(5):
        ledger.files.forget(name)  # and with it the copy on this machine
        starting = threading.Barrier(8)

        def fetch(starting: threading.Barrier = starting) -> Index | None:
            files = LedgerFiles(uri)
            starting.wait(WAIT_S)
            return files.index(name, state)

        with ThreadPoolExecutor(8) as pool:
            indexes = [one.result(WAIT_S) for one in [pool.submit(fetch) for _ in range(8)]]
        assert [index and len(index) for index in indexes] == [2000] * 8


def test_many_threads_may_refresh_while_objects_come_and_go(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_objects, "FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(ledger_objects, "MAX_PARTS", 3)
    writer, reader = Ledger(uri), Ledger(uri)
    num_recorded, has_ended = 0, threading.Event()

    def look() -> int:
        looks = 0
        while not has_ended.is_set():
            keys = [key(number) for number in range(num_recorded)]
            reader.refresh()
            assert reader.known(keys) == set(keys)
            assert all(reader.lookup(one) is not None for one in keys[::7])
            writer.refresh_now_and_then()
            looks += 1
        return looks

    with ThreadPoolExecutor(4) as pool:
        looking = [pool.submit(look) for _ in range(4)]
        try:
            for number in range(15):
                writer.record(key(number), reply(number))
                writer.flush()
                num_recorded = number + 1
        finally:
            has_ended.set()
        assert all(one.result(WAIT_S) for one in looking)
    writer.close()
    assert found(uri, 16) == list(range(15))
