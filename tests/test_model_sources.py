"""Models that lie elsewhere: an object store on loopback, and the hub's own cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import local_folder
from alpagasus_ray.serve.model_folder import check_model_folder
from tests.object_store import object_store


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with object_store("models") as address:
        yield address


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "alpagasus_ray" / "models"


def put(address: str, **files: bytes) -> None:
    filesystem, root = fs.FileSystem.from_uri(address)
    for name, data in files.items():
        with filesystem.open_output_stream(f"{root}/{name.replace('_', '.')}") as stream:
            stream.write(data)


def test_a_folder_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    assert local_folder("model") == str(tmp_path / "model")


def test_an_object_stores_files_are_fetched_once_and_again_when_they_change(store: str, cache: Path) -> None:
    address = store.replace("NAME", "full")
    put(address, config_json=b"{}", model_safetensors=b"weights", tokenizer_json=b"{}")
    check_model_folder(address)
    folder = Path(local_folder(address))
    assert folder.parent == cache
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    (folder / "config.json").write_text('{"kept": true}')
    assert local_folder(address) == str(folder) and "kept" in (folder / "config.json").read_text()
    put(address, model_safetensors=b"better weights")
    again = Path(local_folder(address))
    assert again != folder and (again / "model.safetensors").read_bytes() == b"better weights"
    assert set(cache.iterdir()) == {folder, again}, "nothing half done is left"


def test_an_empty_address_is_told(store: str) -> None:
    with pytest.raises(UserError, match="no model folder"):
        local_folder(store.replace("NAME", "nothing"))
    with pytest.raises(UserError, match="no model folder"):
        check_model_folder(store.replace("NAME", "nothing"))


def test_a_name_on_the_hub_is_had_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    kept = tmp_path / "hub" / "models--someone--base"
    (kept / "snapshots" / "abc").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    assert local_folder("someone/base") == str(kept / "snapshots" / "abc")
    with pytest.raises(UserError, match='"someone/else" is no folder here, nor had from the hub'):
        local_folder("someone/else")
    with pytest.raises(UserError, match="no model folder"):
        local_folder("/no/such/folder")
