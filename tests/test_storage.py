"""Files in an object store that fails for a while."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable

import pytest

from alpagasus_ray import storage, text_files
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.cli import main
from alpagasus_ray.corpus.sources import open_source
from alpagasus_ray.errors import UserError
from alpagasus_ray.storage import Storage
from alpagasus_ray.text_files import read_text
from tests.object_store import Refusals, object_store

pytestmark = pytest.mark.slow
LONGER_THAN_ARROW_WAITS_S = 9.0
SOON_S = 15.0


def test_an_object_store_that_answers_503_for_a_while_is_asked_again() -> None:
    refusals = Refusals()
    with object_store("runs", refusals=refusals) as address:
        run = RunDirectory(address.replace("NAME", "run"))
        # As Ray Train hands it to its workers.
        for filesystem in (run.filesystem, pickle.loads(pickle.dumps(run.filesystem))):
            run.filesystem = filesystem
            refusals.are_on = True
            threading.Timer(LONGER_THAN_ARROW_WAITS_S, setattr, (refusals, "are_on", False)).start()
            run.write_text("words.txt", "They are there.")
            assert run.read_text("words.txt") == "They are there."
        started_s = time.monotonic()
        with pytest.raises(FileNotFoundError):
            run.read_text("no-words.txt")
        assert time.monotonic() - started_s < SOON_S, "an answer is not waited for"


def test_a_store_where_nobody_is_is_said_soon() -> None:
    store = Storage("s3://runs/run?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
    for look in (store.check, store.check_readable):
        started_s = time.monotonic()
        with pytest.raises(UserError, match="the folder s3://runs/run"):
            look()
        assert time.monotonic() - started_s < SOON_S


@pytest.fixture
def no_google(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network to Google's stores, nor to who gives tokens for them."""
    monkeypatch.setattr(text_files, "GCS_HASTE_S", 2)
    for variable in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT"):
        monkeypatch.setenv(variable, "127.0.0.1:9")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)


GCS = "gs://runs/run?endpoint_override=127.0.0.1:9&scheme=http"


@pytest.mark.usefixtures("no_google")
@pytest.mark.parametrize(
    "look",
    [
        lambda: Storage(GCS).check(),
        lambda: Storage(GCS).check_readable(),
        lambda: read_text(GCS),
        lambda: open_source(GCS),
    ],
)
def test_a_store_of_googles_is_not_waited_for(look: Callable[[], object]) -> None:
    started_s = time.monotonic()
    with pytest.raises(UserError, match="gs://runs/run") as caught:
        look()
    assert time.monotonic() - started_s < SOON_S
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_google")
@pytest.mark.parametrize("look", [Storage.check, Storage.check_readable])
def test_credentials_that_are_not_there_are_told_in_one_line(
    look: Callable[[Storage], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no-such-file.json")
    with pytest.raises(UserError, match=r"the folder gs://runs/run .*no-such-file.json") as caught:
        look(Storage("gs://runs/run"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"no-such-file.json"):
        read_text("gs://runs/recipe.yaml")


def test_azures_usual_addresses_are_opened() -> None:
    assert Storage("abfss://runs@me.dfs.core.windows.net/run").path("x") == "runs/run/x"


@pytest.mark.parametrize(
    "uri", ["abfss://me/run?tenant_id=x", "s3://bucket/run?nothing=1", "what://bucket/run"]
)
def test_an_address_that_is_none_is_said_in_one_line(uri: str) -> None:
    with pytest.raises(UserError, match=r"the folder .* cannot be opened") as caught:
        Storage(uri)
    assert "\n" not in str(caught.value)


def test_a_store_of_googles_stays_patient_where_work_is_done() -> None:
    _, (options,) = Storage(GCS).filesystem.__reduce__()
    assert options["retry_time_limit"] is None


def test_a_store_that_fails_for_longer_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refusals = Refusals()
    monkeypatch.setattr(storage, "S3_ATTEMPTS", 1)
    monkeypatch.setattr(RunDirectory, "check_readable", lambda run: setattr(refusals, "are_on", True))
    with object_store("runs", refusals=refusals) as address:
        assert main(["select", "--arm", "full", "--run-dir", address.replace("NAME", "run")]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "alpagasus: " in line]
    assert len(said) == 1 and "HTTP status 503" in said[0]
    assert said[0].endswith("what was finished is kept, the same command goes on from there")
