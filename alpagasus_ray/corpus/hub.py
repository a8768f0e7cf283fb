"""Data sets of the Hugging Face hub: which of a data set's files are the rows, and how they get here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpagasus_ray.errors import UserError

SCHEME = "hf://datasets/"
"""As the hub's own libraries write it: hf://datasets/OWNER/NAME[@REVISION][/FILE]."""
ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv")
_PART = r"[A-Za-z0-9][\w.-]*"
_ID = re.compile(rf"(?P<id>{_PART}/{_PART})(?:@(?P<revision>[\w./-]+?))?(?:/(?P<file>[^@]+))?")
_SHARD = re.compile(r"[-_.]?\d{3,}(?:-of-\d+)?(?:-[0-9a-f]{8,})?")
"""`-00000-of-00003-a09b74b3ef9c3b56`: what the parts of one table differ in."""


@dataclass(frozen=True)
class HubDataset:
    """What a user asked for."""

    id: str
    revision: str | None = None
    file: str | None = None
    """One file of it; None: the one table that it holds."""


def parse_hub_name(data: str) -> HubDataset | None:
    """Return what a name such as `tatsu-lab/alpaca` or `hf://datasets/...` asks for; None for another.

    >>> parse_hub_name("hf://datasets/tatsu-lab/alpaca@main/data/train.parquet")
    HubDataset(id='tatsu-lab/alpaca', revision='main', file='data/train.parquet')
    >>> parse_hub_name("data/rows.json") is None
    True
    """
    if data.startswith(SCHEME):
        match = _ID.fullmatch(data.removeprefix(SCHEME))
        if match is None:
            raise UserError(f"--data {data}: write it as {SCHEME}OWNER/NAME, or {SCHEME}OWNER/NAME/FILE")
        return HubDataset(match["id"], match["revision"], match["file"])
    is_file = data.lower().removesuffix(".gz").endswith(ENDINGS)
    match = None if is_file else _ID.fullmatch(data)
    return HubDataset(match["id"]) if match and not match["file"] and not match["revision"] else None


def choose_files(names: Sequence[str], dataset: HubDataset) -> list[str]:
    """Return the files that hold the rows, in the order of their names.

    They are the parts of one table, of the training split where the data set has splits. Raises
    UserError that names the candidates where there are several tables.
    """
    if dataset.file is not None:
        if dataset.file not in names:
            raise UserError(f"--data {dataset.id}: no file {dataset.file} there.{_shown(_data_files(names))}")
        return [dataset.file]
    candidates = _data_files(names)
    training = [name for name in candidates if "train" in name.rpartition("/")[2].lower()]
    tables: dict[str, list[str]] = {}
    for name in training or candidates:
        tables.setdefault(_SHARD.sub("", name), []).append(name)
    if len(tables) == 1:
        return sorted(*tables.values())
    what = "holds several tables: name one with" if tables else "holds no file that can be read; write"
    raise UserError(
        f"--data {dataset.id} {what} --data {SCHEME}{dataset.id}/FILE.{_shown(training or candidates)}"
    )


def download(dataset: HubDataset) -> list[Path]:
    """Return the files that hold the rows, from the hub or, where it is out of reach, from its cache.

    Raises UserError for a data set that is not there, may not be read or cannot be reached.
    """
    # Imported here: it takes a while, and most data are files.
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import (
        CachedRepoTreeNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where, revision = dataset.id, dataset.revision
    try:
        # Nothing matches: the list of the files comes, and none of them.
        snapshot_download(where, repo_type="dataset", revision=revision, allow_patterns=[])
        tree = get_cached_repo_tree(where, repo_type="dataset", revision=revision)
        names = choose_files([file.path for file in tree], dataset)
        patterns = [_literally(name) for name in names]
        folder = snapshot_download(where, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except GatedRepoError as error:
        raise UserError(
            f"--data {where}: its owner asks for consent: agree on its page, and export HF_TOKEN=..."
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"--data {where}: no such file, and no such data set on the hub (a private one needs HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"--data {where}: it has no revision {revision}") from error
    except HFValidationError as error:
        raise UserError(f"--data {where}: no such file, and no name of a data set") from error
    except (OSError, CachedRepoTreeNotFoundError) as error:
        raise UserError(
            f"--data {where}: no such file, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__})"
        ) from error
    return [Path(folder) / name for name in names]


def _data_files(names: Sequence[str]) -> list[str]:
    return sorted(name for name in names if name.lower().removesuffix(".gz").endswith(ENDINGS))


def _shown(names: Sequence[str]) -> str:
    return f" There: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""


def _literally(name: str) -> str:
    """Return a pattern that matches this name and no other."""
    return re.sub(r"([*?[])", r"[\1]", name)
