"""KubeRay's own definitions of its resources, and what they say of a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml


def definition(kind: str, shared_data: Path) -> dict[str, Any]:
    """Return the schema of a kind such as RayService; skips the test where it is not there."""
    path = shared_data.parent / "kuberay" / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip("KubeRay's definitions are not beside this checkout")
    versions = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    schema: dict[str, Any] = next(one for one in versions if one["name"] == "v1")["schema"]["openAPIV3Schema"]
    return schema


def faults(manifest: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Return what Kubernetes would refuse, and the fields that it would drop in silence."""
    jsonschema = pytest.importorskip("jsonschema")
    refused = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]
    return [*refused, *unknown_fields(manifest, schema)]


def unknown_fields(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the fields that Kubernetes would drop in silence."""
    if isinstance(value, list):
        for one in value:
            yield from unknown_fields(one, schema["items"], path)
    elif isinstance(value, dict) and path != ".metadata" and "additionalProperties" not in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                yield f"{path}.{name}"
            else:
                yield from unknown_fields(inner, schema["properties"][name], f"{path}.{name}")
