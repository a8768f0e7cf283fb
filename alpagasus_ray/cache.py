"""Where what was fetched once is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Return the folder of one kind of things: $XDG_CACHE_HOME/alpagasus_ray/<kind>, or in ~/.cache.

    A relative XDG_CACHE_HOME is ignored, as the XDG base directory specification says.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "alpagasus_ray" / kind
