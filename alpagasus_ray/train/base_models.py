"""A base model before it is loaded: is it one, and which. Needs no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles, local_folder
from alpagasus_ray.recipe import TOYWORLD, TrainSettings

NUM_SAMPLES = 64
SAMPLED_BYTES = 1 << 16
WEIGHT_SUFFIXES = (".safetensors", ".bin")
WEIGHT_INDEX = "model.safetensors.index.json"
"""Says which of several files a tensor is in."""


def check_base_model(model: str) -> None:
    """Raise UserError unless this is a hub id, or a folder (an address) with config and tokenizer."""
    if "://" in model:
        files = ModelFiles(model)
        if missing := [name for name in ("config.json", "tokenizer_config.json") if not files.exists(name)]:
            raise UserError(f"model {model}: {missing[0]} is not there")
        return
    folder = Path(model).expanduser()
    if not folder.exists():
        looks_like_a_path = model.startswith((".", "/", "~")) or model.count("/") != 1
        if looks_like_a_path:
            raise UserError(f"model {model}: no such folder")
        return
    for needed, what in (("config.json", "no Hugging Face model"), ("tokenizer_config.json", "no tokenizer")):
        if not (folder / needed).is_file():
            raise UserError(f"model {model}: {what} there ({needed} is missing)")


def check_weights(model: str, folder: str) -> None:
    """Raise UserError for a folder without weights, or without some of those that its index names.

    `folder` is where the model's files are on this machine. Where there is none (a hub id), nothing is known.
    """
    here = Path(folder).expanduser()
    if not here.is_dir():
        return
    if not any(path.suffix in WEIGHT_SUFFIXES for path in here.iterdir()):
        raise UserError(f"model {model}: no weights are there (no .safetensors or .bin file)")
    index = here / WEIGHT_INDEX
    if not index.is_file():
        return
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"model {model}: {WEIGHT_INDEX} cannot be read ({error!r})") from error
    if missing := sorted(name for name in files if not (here / str(name)).is_file()):
        raise UserError(f"model {model}: {missing[0]} is missing, one of {len(files)} files of its weights")


def base_model_file(run: RunDirectory, settings: TrainSettings, name: str) -> Path:
    """Return one of the base model's files; nothing is fetched.

    Raises UserError where it is not on this machine.
    """
    model = settings.model
    if model is None:
        raise UserError("no base model: give --model FOLDER (or --set train.model=FOLDER)")
    if model == TOYWORLD:
        run.require(run.toyworld, "demo")
        model = run.child_uri(f"{run.toyworld}/base-model")
    check_base_model(model)
    if "://" in model:
        return Path(local_folder(model)) / name
    folder = Path(model).expanduser()
    if not folder.exists():
        # Imported here: a folder needs no hub.
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, name)
        if not isinstance(cached, str):
            raise UserError(f"model {model}: {name} is not on this machine: `hf download {model} {name}`")
        return Path(cached)
    if not (folder / name).is_file():
        raise UserError(f"model {model}: {name} is missing there, by which a plan is made")
    return folder / name


def fingerprint(model: str) -> str:
    """Return what names a base model's content: a hub id as it stands, a folder or an address by a hash.

    Of an address it covers names, sizes and times. Of a folder: names and sizes of all files, and 64 samples
    of 64 KiB spread over each from its first byte to its last (small files: all of it): enough to tell any
    two trained models apart, without reading hundreds of GB at every start.
    """
    if "://" in model:
        return hashlib.sha256(ModelFiles(model).listing().encode()).hexdigest()
    folder = Path(model).expanduser()
    if not folder.exists():
        return model
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\0{size}\n".encode())
        with path.open("rb") as file:
            for place in _sampled_places(size):
                file.seek(place)
                digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


def _sampled_places(size_bytes: int) -> Iterable[int]:
    if size_bytes <= NUM_SAMPLES * SAMPLED_BYTES:
        return range(0, size_bytes, SAMPLED_BYTES)
    last = size_bytes - SAMPLED_BYTES
    return (last * number // (NUM_SAMPLES - 1) for number in range(NUM_SAMPLES))


def torch_has_cuda() -> bool:
    """Return whether the installed torch can use a GPU; a CPU build cannot, whatever the machine has."""
    return not importlib.metadata.version("torch").endswith("+cpu")
