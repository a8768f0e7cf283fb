"""Whom the benchmarks ask: what serving and benchmarking have to agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.benchmark.benchmarking import Benchmarks
from alpagasus_ray.benchmark.endpoint_model import Target
from alpagasus_ray.console import Console
from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles
from alpagasus_ray.recipe_files import require_key
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.sharing import Open
from alpagasus_ray.serve.windows import window_of

if TYPE_CHECKING:
    from alpagasus_ray.recipe import Recipe, ServeSettings
    from alpagasus_ray.serve.endpoint import Endpoint

DEFAULT_LENGTH_TOKENS = 2048
"""Of a model whose config does not say: what lm-evaluation-harness takes (lm_eval.models.api_models)."""


def do_benchmarks(
    benchmarks: Benchmarks,
    run: RunDirectory,
    recipe: Recipe,
    arms: Sequence[str],
    *,
    connect: Callable[[], object],
    serving: Open,
    console: Console,
) -> list[str]:
    """Commit the arms' figures, serving their models meanwhile where no endpoint is given.

    `connect` brings Ray up, as `serving` does. Return in words what could not be done. Raises UserError where
    a model, a key or a tokenizer is missing.
    """
    todo = [arm for arm in arms if benchmarks.missing(arm)]
    if not todo:
        if benchmarks.found:
            console.say(f"benchmark: {', '.join(arms)} done before")
        return []
    if recipe.benchmark.base_url is not None:
        targets = targets_elsewhere(run, recipe, todo)
        connect()
        console.say(f"benchmark: asking {recipe.benchmark.base_url} (benchmark.base_url)")
        return benchmarks.make(targets, console)
    folders = {arm: run.child_uri(run.model(arm)) for arm in todo}
    with serving([ServedModel(*one) for one in folders.items()]) as endpoint:
        return benchmarks.make(served_targets(folders, endpoint, recipe.serve), console)


def served_targets(folders: Mapping[str, str], endpoint: Endpoint, settings: ServeSettings) -> list[Target]:
    """Return the arms behind an endpoint of our own, from their models' folders."""
    return [
        _target(arm, folder, endpoint.base_url, settings.api_key_env, settings)
        for arm, folder in folders.items()
    ]


def targets_elsewhere(run: RunDirectory, recipe: Recipe, arms: Sequence[str]) -> list[Target]:
    """Return the arms behind the endpoint that the recipe names.

    Raises UserError where its key is not there, or there is no tokenizer of an arm.
    """
    settings = recipe.benchmark
    assert settings.base_url is not None
    require_key(settings.api_key_env)
    targets = []
    for arm in arms:
        folder = settings.tokenizer or run.child_uri(run.model(arm))
        if not ModelFiles(folder).exists("tokenizer_config.json"):
            raise UserError(
                f"{arm} has no tokenizer in {folder}: name the folder of the model that "
                "benchmark.base_url serves with --set benchmark.tokenizer=FOLDER"
            )
        targets.append(_target(arm, folder, settings.base_url, settings.api_key_env, recipe.serve))
    return targets


def _target(arm: str, folder: str, base_url: str, api_key_env: str | None, settings: ServeSettings) -> Target:
    length_tokens = window_of(ServedModel(arm, folder), settings).assumed or DEFAULT_LENGTH_TOKENS
    return Target(arm, base_url, api_key_env, folder, length_tokens)
