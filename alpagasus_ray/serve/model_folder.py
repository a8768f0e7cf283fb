"""What can be served: folders in Hugging Face's form, looked at before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles
from alpagasus_ray.storage import last_part

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")

SIGNS = {":": "a colon", "#": "a hash", "?": "a question mark"}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model behind the endpoint."""

    name: str
    """What a request calls it: the arm's name."""
    folder: str
    """Its folder, or its address in an object store; on a cluster, one that every node can read."""


def models_named_by_folder(folders: Sequence[str]) -> tuple[ServedModel, ...]:
    """Return one model per folder, each called by the last part of its path.

    Raises UserError when two folders have the same last part.

    >>> models_named_by_folder(["runs/demo/models/full/"])[0].name
    'full'
    """
    models = tuple(ServedModel(last_part(absolute(folder)), folder) for folder in folders)
    check_names_differ(models)
    return models


def check_names_differ(models: Sequence[ServedModel]) -> None:
    """Raise UserError when there is no model, when two have the same name, or one cannot be asked for."""
    if not models:
        raise UserError("There is no model to serve: name at least one model folder.")
    folders: dict[str, str] = {}
    for model in models:
        if model.name in folders:
            raise UserError(
                f'Two models are called "{model.name}" ({folders[model.name]} and {model.folder}): '
                "requests could not tell them apart. Rename one folder."
            )
        if flaw := _flaw_of_name(model.name):
            raise UserError(f"{model.name!r} cannot be the name of a model ({flaw}). Rename {model.folder}")
        folders[model.name] = model.folder


def _flaw_of_name(name: str) -> str | None:
    """Return why requests, addresses or Ray Serve could not tell a model by this name."""
    if not name.strip() or name in (".", ".."):
        return "it is none"
    if not name.isprintable():
        return "it has characters that cannot be printed"
    if not name.isascii():
        return "Ray's metrics hold ASCII alone, and a model of this name would never start"
    # Ray Serve keeps a base model and its adapter apart with a colon, an application and a deployment with a
    # hash, and what follows a question mark is no part of /v1/models/NAME.
    found = next((what for sign, what in SIGNS.items() if sign in name), None)
    return found and f"it has {found} in it"


def absolute(folder: str) -> str:
    """Return the folder's whole path; an address in an object store is one already."""
    return folder if "://" in folder else str(Path(folder).expanduser().resolve())


def weight_bytes(folder: str) -> int:
    """Return how large the weights are that lie there."""
    files = ModelFiles(folder)
    return sum(files.size_bytes(name) for name in files.list_files("") if _holds_weights(name))


def is_adapter(folder: str | Path) -> bool:
    """Return whether the folder holds a LoRA adapter alone."""
    files = ModelFiles(str(folder))
    return files.exists(ADAPTER_CONFIG) and not files.exists("config.json")


def check_model_folder(folder: str | Path) -> None:
    """Raise UserError unless the folder has a config, all its weights and a tokenizer."""
    files = ModelFiles(str(folder))
    names = _names(files)
    if "config.json" not in names:
        raise UserError(f"{folder} is no Hugging Face model folder: config.json is missing.")
    files.read_json("config.json")
    _check_weights(files, names)
    if names.isdisjoint(TOKENIZER_FILES):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): save one beside it.")


def check_adapter_folder(folder: str | Path) -> None:
    """Raise UserError unless the folder has an adapter's config and weights."""
    files = ModelFiles(str(folder))
    files.read_json(ADAPTER_CONFIG)
    if not any(files.size_bytes(name) for name in ADAPTER_WEIGHTS):
        raise UserError(f"{folder} has no weights ({ADAPTER_WEIGHTS[0]}).")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return what config.json says; raises UserError when it is not a JSON object."""
    return ModelFiles(str(folder)).read_json("config.json")


def end_token_ids(folder: str | Path) -> frozenset[int]:
    """Return the tokens that end an answer, as generation_config.json or else config.json names them."""
    files = ModelFiles(str(folder))
    for name in ("generation_config.json", "config.json"):
        named = files.read_json(name).get("eos_token_id") if files.exists(name) else None
        if named is not None:
            return frozenset(named if isinstance(named, list) else [named])
    return frozenset()


def _names(files: ModelFiles) -> set[str]:
    if files.is_file(""):
        raise UserError(f"{files.uri} is a file: name the folder of a model.")
    names = set(files.list_files(""))
    if not names and not files.exists(""):
        raise UserError(f"There is no model folder {files.uri}.")
    return names


def _check_weights(files: ModelFiles, names: set[str]) -> None:
    """Look for every file that the index names: an export that was cut short lacks the last ones."""
    for index in WEIGHT_INDEXES:
        if index not in names:
            continue
        try:
            shards = set(files.read_json(index)["weight_map"].values())
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{files.shown(index)} is no index of weights: {error}") from error
        if missing := sorted(shards - names):
            raise UserError(f"{files.uri} lacks {len(missing)} of its weight files, among them {missing[0]}.")
        return
    weights = filter(_holds_weights, names)
    if not any(files.size_bytes(name) for name in weights):
        raise UserError(f"{files.uri} has no weights (model.safetensors or pytorch_model.bin).")


def _holds_weights(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in WEIGHT_PATTERNS)
