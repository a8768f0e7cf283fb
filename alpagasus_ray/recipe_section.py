"""What every section of the recipe is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
"""The name of an arm or a rubric: part of paths and of URLs."""

Url = Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
"""An endpoint's address; without a user and password, since it is written down."""
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
"""An environment variable's name: a key that was put here by mistake does not look like one."""


class Section(BaseModel):
    """A section of the recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
