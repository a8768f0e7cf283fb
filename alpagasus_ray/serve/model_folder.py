"""What can be served: folders in Hugging Face's form, looked at before anything is started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpagasus_ray.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model behind the endpoint."""

    name: str
    """What a request calls it: the arm's name."""
    folder: str
    """Its folder; on a cluster, a path that every node can read."""


def models_named_by_folder(folders: Sequence[str]) -> tuple[ServedModel, ...]:
    """Return one model per folder, each called by the last part of its path.

    Raises UserError when two folders have the same last part.

    >>> models_named_by_folder(["runs/demo/models/full/"])[0].name
    'full'
    """
    models = tuple(ServedModel(Path(folder).resolve().name, folder) for folder in folders)
    check_names_differ(models)
    return models


def check_names_differ(models: Sequence[ServedModel]) -> None:
    """Raise UserError when there is no model, or when two have the same name."""
    if not models:
        raise UserError("There is no model to serve: name at least one model folder.")
    folders: dict[str, str] = {}
    for model in models:
        if model.name in folders:
            raise UserError(
                f'Two models are called "{model.name}" ({folders[model.name]} and {model.folder}): '
                "requests could not tell them apart. Rename one folder."
            )
        folders[model.name] = model.folder


def check_model_folder(path: str | Path) -> None:
    """Raise UserError unless the folder has a config, all its weights and a tokenizer."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"There is no model folder {folder}.")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(f"{folder} holds a LoRA adapter: merge it into its base model to serve it.")
        raise UserError(f"{folder} is no Hugging Face model folder: config.json is missing.")
    read_config(folder)
    _check_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json or tokenizer.model): save one beside it.")


def read_config(folder: str | Path) -> dict[str, Any]:
    """Return what config.json says; raises UserError when it is not a JSON object."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object.")
    return config


def _check_weights(folder: Path) -> None:
    """Look for every file that the index names: an export that was cut short lacks the last ones."""
    for index in WEIGHT_INDEXES:
        if not (folder / index).is_file():
            continue
        try:
            shards = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / index} is no index of weights: {error}") from error
        if missing := sorted(name for name in shards if not (folder / name).is_file()):
            raise UserError(f"{folder} lacks {len(missing)} of its weight files, among them {missing[0]}.")
        return
    if not any(path.stat().st_size for pattern in WEIGHT_PATTERNS for path in folder.glob(pattern)):
        raise UserError(f"{folder} has no weights (model.safetensors or pytorch_model.bin).")
