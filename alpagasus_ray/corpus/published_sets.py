"""The paper's four test sets by name: what they are, where they were published, and where they are here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpagasus_ray.cache import cache_folder
from alpagasus_ray.corpus.testsets import Prompt, TestSet, read_testset
from alpagasus_ray.errors import UserError

ALPAGASUS = "https://raw.githubusercontent.com/gpt4life/alpagasus/main/test_data"
"""Where the paper's code has them (gpt4life/alpagasus, generation/generation.py reads ../test_data)."""
CACHED = "testsets"
"""The folder of the cache."""
_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublishedSet:
    """One of the test sets of the paper (arXiv 2307.08701, section 3)."""

    name: str
    num_prompts: int
    content_sha256: str
    """Of the parsed prompts, as content_sha256 takes it, and not of a file's bytes: the same prompts are
    published at two addresses, and nobody vouches that the files are the same to the byte."""
    home: str
    """The address at its own authors', where the paper's copy is out of reach."""

    @property
    def file_name(self) -> str:
        """What its file is called, here and in the paper's repository."""
        return f"{self.name}_test_set.jsonl"

    def urls(self, base_url: str | None = None) -> tuple[str, ...]:
        """Return the addresses to try in turn; where a base is given, that one alone."""
        if base_url is not None:
            return (f"{base_url.rstrip('/')}/{self.file_name}",)
        return (f"{ALPAGASUS}/{self.file_name}", self.home)

    def is_content(self, prompts: Sequence[Prompt]) -> bool:
        """Return whether these are the published prompts, in their order."""
        return content_sha256(prompts) == self.content_sha256


PUBLISHED = {
    published.name: published
    for published in (
        PublishedSet(
            "koala",
            180,
            "0a6c03e9dbc348d252f3fa36134e0af6584143a7ecfde575f94fb799eae132ee",
            f"{_GITHUB}/arnav-gudibande/koala-test-set/main/koala_test_set.jsonl",
        ),
        PublishedSet(
            "sinstruct",
            252,
            "6a78996be49109f38c80a58ed486a96800bfc40126a232d7196aaaf822bad119",
            f"{_GITHUB}/yizhongw/self-instruct/main/human_eval/user_oriented_instructions.jsonl",
        ),
        PublishedSet(
            "vicuna",
            80,
            "3503821cbb0daa9e6cea31195928dcc91c403e4280963d3e46c41e2b4845967f",
            f"{_GITHUB}/lm-sys/FastChat/v0.2.5/fastchat/eval/table/question.jsonl",
        ),
        PublishedSet(
            "wizardlm",
            218,
            "e0f8cb13473ed085563b91db1de8d5d090e6aef24ea32456ac7323306ea6cb69",
            f"{_GITHUB}/nlpxucan/WizardLM/ce0d433589335d419aa8101abd71685ae7d187f3/WizardLM/data/"
            "WizardLM_testset.jsonl",
        ),
    )
}
"""By the name that generate.testsets knows."""


def content_sha256(prompts: Sequence[Prompt]) -> str:
    """Return the hash of prompts as they are read: of ids, instructions, inputs and categories, in order."""
    rows = [[prompt.id, prompt.instruction, prompt.input, prompt.category] for prompt in prompts]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def file_in(published: PublishedSet, folder: Path) -> Path | None:
    """Return the set's file in a folder, `<name>_test_set.jsonl` or `<name>.jsonl`; None for neither."""
    candidates = (folder / published.file_name, folder / f"{published.name}.jsonl")
    return next((path for path in candidates if path.is_file()), None)


def find_published(published: PublishedSet, folder: str | None) -> Path | None:
    """Return the set's file: in the folder that the recipe names, else in the cache; None for neither.

    Nothing else is looked at: not the working directory, where a file called like a set is some file.
    Raises UserError for a folder that is not there, which is a slip and no reason to take another file.
    """
    if folder is not None:
        if not Path(folder).is_dir():
            raise UserError(f"generate.testsets_folder {folder}: no such folder")
        if (path := file_in(published, Path(folder))) is not None:
            return path
    return file_in(published, cache_folder(CACHED))


def read_published(published: PublishedSet, folder: str | None) -> TestSet:
    """Return a set by its name, from where find_published has it.

    What lies in a folder of the user's is the user's to answer for, and what lies in the cache has to be
    what was published. Raises UserError that names the command that fetches it.
    """
    path = find_published(published, folder)
    fetch = f"alpagasus testsets fetch {published.name}"
    if path is None:
        where = f"neither in {folder} nor in the cache" if folder else "not on this machine yet"
        raise UserError(f"the test set {published.name} is {where}: `{fetch}` gets it")
    testset = read_testset(path)
    if path.parent == cache_folder(CACHED) and not published.is_content(testset.prompts):
        raise UserError(f"{path} is not what was published as {published.name}: remove it, then `{fetch}`")
    return TestSet(published.name, testset.prompts)
