"""The endpoint as a file that `serve deploy` takes: written here, read again on the cluster. No Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles, is_folder_or_address
from alpagasus_ray.recipe_files import parse_recipe
from alpagasus_ray.recipe_section import holds_a_secret
from alpagasus_ray.serve.engine_settings import APPLICATION
from alpagasus_ray.serve.engines import checked_engines
from alpagasus_ray.serve.model_folder import (
    ADAPTER_CONFIG,
    ServedModel,
    absolute,
    is_adapter,
)
from alpagasus_ray.serve.rayservice import SECRET, rayservice, settings_on_kubernetes

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

IMPORT_PATH = "alpagasus_ray.serve.application:application_from_config"
ELSEWHERE = frozenset({"host", "port", "startup_timeout_s"})
"""Settings that the file has in http_options, or that only the command which waits for the endpoint reads."""


def write_serve_config(
    file: str | Path, models: Sequence[ServedModel], settings: ServeSettings, image: str | None = None
) -> tuple[Path, ...]:
    """Write what `serve deploy` takes, and with an image a KubeRay RayService beside it; return the files.

    On Kubernetes the endpoint listens where other pods reach it, and nodes with a replica have a proxy each:
    KubeRay never takes a worker without one for ready (github.com/ray-project/kuberay/issues/4994).

    Raises UserError for what `serving` would refuse, and when a file cannot be written.
    """
    if image is not None:
        settings = settings_on_kubernetes(settings)
    engines = checked_engines(models, settings)
    config = serve_config(models, settings, proxy_location="HeadOnly" if image is None else "EveryNode")
    path = Path(file)
    written = {path: _hints(path, settings) + to_yaml(config)}
    if image is not None:
        manifest = rayservice(to_yaml(config), image, engines, settings)
        beside = path.with_suffix(".rayservice.yaml")
        written[beside] = _kubernetes_hints(beside, settings) + to_yaml(manifest)
    for target, text in written.items():
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--write-config {target}: {error.strerror}") from error
    return tuple(written)


def serve_config(
    models: Sequence[ServedModel], settings: ServeSettings, *, proxy_location: str = "HeadOnly"
) -> dict[str, Any]:
    """Return the fields of Serve's config file (ray.serve.schema.ServeDeploySchema).

    Folders stand in it by their whole path; of the key, the name of its environment variable.

    Raises UserError for port 0, an address with a key in it, and base models that a cluster would not find.
    """
    if settings.port == 0:
        raise UserError("--port 0: a file has to name the port, such as --port 8000")
    base_model = _base_model(models, settings.base_model)
    settings = settings.model_copy(update={"base_model": base_model})
    if any(holds_a_secret(place) for place in [*(model.folder for model in models), base_model or ""]):
        raise UserError("a model's address has a user or a key in it: keys come from the environment")
    return {
        "proxy_location": proxy_location,
        "http_options": {"host": settings.host, "port": settings.port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": IMPORT_PATH,
                "args": {
                    "models": {model.name: absolute(model.folder) for model in models},
                    "settings": settings.model_dump(
                        mode="json", exclude_defaults=True, exclude=set(ELSEWHERE)
                    ),
                },
            }
        ],
    }


def read_arguments(arguments: Mapping[str, Any]) -> tuple[tuple[ServedModel, ...], ServeSettings]:
    """Return the models and the settings in an application's `args`; raises UserError in one line."""
    models, settings = arguments.get("models"), arguments.get("settings") or {}
    if set(arguments) - {"models", "settings"} or not isinstance(models, Mapping):
        raise UserError("args: `models` (names with folders) and `settings` (of recipe.serve) are expected")
    served = tuple(ServedModel(str(name), str(folder)) for name, folder in models.items())
    return served, parse_recipe({"serve": settings}).serve


def to_yaml(values: Mapping[str, Any]) -> str:
    """Return values as YAML, in their order, texts of several lines as they stand."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out: a reader need not follow an anchor."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _base_model(models: Sequence[ServedModel], base_model: str | None) -> str | None:
    """Return where adapters' base lies, for a reader that stands in another folder than this process."""
    if base_model is not None:
        return absolute(base_model) if is_folder_or_address(base_model) else base_model
    adapters = [ModelFiles(model.folder) for model in models if is_adapter(model.folder)]
    named = {str(files.read_json(ADAPTER_CONFIG)["base_model_name_or_path"]) for files in adapters}
    # A name on the hub is the same everywhere; a relative path is not.
    relative = [name for name in sorted(named) if is_folder_or_address(name) and absolute(name) != name]
    if len(relative) and len(named) > 1:
        raise UserError(
            f"the base model {relative[0]} is named by a path that only holds in this folder: "
            "serve its adapters apart, or name one base model for all with --base-model"
        )
    return absolute(relative[0]) if relative else None


def _hints(path: Path, settings: ServeSettings) -> str:
    key = settings.api_key_env
    return (
        f"# On a running Ray cluster: serve deploy {path.name}\n"
        "# Every node needs alpagasus_ray, and the models where they are named below.\n"
    ) + (f"# The API key has to be in its environment, as {key}.\n" if key else "")


def _kubernetes_hints(path: Path, settings: ServeSettings) -> str:
    variable = settings.api_key_env
    secret = f"kubectl create secret generic {SECRET} --from-literal={variable}=...\n# " if variable else ""
    return (
        f"# {secret}kubectl apply -f {path.name}\n"
        "# The image needs alpagasus_ray. Models in folders have to be in it, or on a volume that you add;\n"
        "# those in an object store are fetched. CPUs and memory are where to start from.\n"
    )
