"""Recipes whose estimates can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alpagasus_ray.recipe import Recipe


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"instruction": f"Name number {i}.", "input": "", "output": "It is so. " * (1 + i % 7)}
        for i in range(count)
    ]


def settings_with(data: Path, **sections: Any) -> Recipe:
    grade = {"model": "gpt-4o-mini", "guard": {"action": "off"}, **sections.pop("grade", {})}
    return Recipe.model_validate({"corpus": {"data": str(data)}, "grade": grade, **sections})


def write_prompts(folder: Path, count: int = 10, name: str = "prompts") -> str:
    """Write a test set and return its path."""
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Why is {i} odd?"}) + "\n" for i in range(count)))
    return str(path)
