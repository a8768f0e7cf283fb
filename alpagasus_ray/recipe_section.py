"""What every section of the recipe is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
"""The name of an arm or a rubric: part of paths and of URLs."""


def _is_url(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s@]+", address):
        raise ValueError("write it as http://HOST:PORT/v1 or https://..., without a user or key in it")
    return address


Url = Annotated[str, AfterValidator(_is_url)]
"""An endpoint's address; without a user and password, since it is written down."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
"""An environment variable's name: a key that was put here by mistake does not look like one."""


def holds_a_secret(address: str) -> bool:
    """Return whether an address has a user or a key in it: recipes, manifests and messages repeat it.

    >>> holds_a_secret("s3://AKIA:secret@bucket/data.json"), holds_a_secret("s3://bucket/a@b.json")
    (True, False)
    """
    return re.match(r"[\w+.-]+://[^/]*@", address) is not None


def _without_secret(address: str) -> str:
    if holds_a_secret(address):
        raise ValueError("this is an address with a user or a key in it: keys come from the environment")
    return address


Address = Annotated[str, AfterValidator(_without_secret)]
"""A path, or an address in an object store."""


class Section(BaseModel):
    """A section of the recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
