"""Which training a checkpoint is of, and which one a model that is there. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alpagasus_ray.manifests import Manifest
from alpagasus_ray.recipe import TrainSettings


def attempt_settings(settings: TrainSettings, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint hangs on besides base model and rows; `own` is the user's DeepSpeed JSON.

    Each strategy has checkpoints of its own form; other workers or micro-batches can go on from them, and
    whether adapters are merged is seen to at the end.
    """
    shaping = settings.shapes_result()
    if shaping["lora"] is not None:
        shaping["lora"] = {name: value for name, value in shaping["lora"].items() if name != "merge"}
    return {**shaping, "strategy": settings.strategy, **({"deepspeed": dict(own)} if own else {})}


def what_gives_way(there: Manifest | None, settings: Mapping[str, Any]) -> str:
    """Return in words that a model which is there gives way to one of other settings; empty where none is."""
    if there is None:
        return ""
    wanted = json.loads(json.dumps(settings))  # as they are read back
    changed = [name for name in {**there.settings, **wanted} if there.settings.get(name) != wanted.get(name)]
    what = f"with another {', '.join(changed)}" if changed else "on other rows"
    return (
        f"the model that is there was trained {what} and gives way to this one: another arm or --run-dir "
        "keeps both"
    )
