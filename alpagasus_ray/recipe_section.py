"""What every section of the recipe is made of."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def checked_name(text: str) -> str:
    """Return the name of an arm or a rubric; raises ValueError for what could be no part of a path or a URL.

    >>> checked_name("random-9.2k")
    'random-9.2k'
    """
    if re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text) is None:
        raise ValueError(
            f'"{text}" is no name: letters, digits, ., _ and -, at most 64, a letter or a digit first'
        )
    return text


Name = Annotated[str, AfterValidator(checked_name)]
"""The name of an arm or a rubric."""


def _is_url(address: str) -> str:
    if not re.fullmatch(r"https?://[^\s@]+", address) or holds_a_secret(address):
        raise ValueError("write it as http://HOST:PORT/v1 or https://..., without a user or key in it")
    return address


Url = Annotated[str, AfterValidator(_is_url)]
"""An endpoint's address; without a user and password, since it is written down."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
"""An environment variable's name: a key that was put here by mistake does not look like one."""


WITHOUT_USERS = ("s3", "s3a", "gs", "gcs", "http", "https")
"""Of addresses in which what stands before an @ is a key. In abfss://container@account... it is none."""
SECRET_OPTION = re.compile(
    "secret|passw|token|signature|(access|account|api|private|shared|storage)key$|^(sig|key|pwd)$"
)
"""Of the names of options that follow a question mark, in small letters and digits."""


def holds_a_secret(address: str) -> bool:
    """Return whether an address has a user or a key in it: recipes, manifests and messages repeat it.

    >>> holds_a_secret("s3://AKIA:secret@bucket/data.json"), holds_a_secret("s3://bucket/a@b.json")
    (True, False)
    >>> holds_a_secret("abfss://runs@me.dfs.core.windows.net/run"), holds_a_secret("https://host/run?sig=x")
    (False, True)
    """
    if (found := re.match(r"([\w+.-]+)://([^/?#]*)", address)) is None:
        return False
    kind, host = found[1].lower(), found[2]
    user, at, _ = host.rpartition("@")
    # A key may hold a slash itself, and what seems to be the host ends there.
    looks_cut = kind in WITHOUT_USERS and re.search(r":(?!\d*$)[^\]]*$", host) is not None
    if ":" in unquote(user) or (at and kind in WITHOUT_USERS) or looks_cut:
        return True
    options = (one.partition("=") for one in re.split("[&;#]", address.partition("?")[2]))
    names = (unquote(name).lower() for name, _, value in options if value)
    return any(SECRET_OPTION.search(re.sub("[^a-z0-9]", "", name)) for name in names)


def _without_secret(address: str) -> str:
    if holds_a_secret(address):
        raise ValueError("this is an address with a user or a key in it: keys come from the environment")
    return address


Address = Annotated[str, AfterValidator(_without_secret)]
"""A path, or an address in an object store."""


class Section(BaseModel):
    """A section of the recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
