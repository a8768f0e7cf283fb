"""Which models share an engine: adapters of one base model are served over its weights, held once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alpagasus_ray.errors import UserError
from alpagasus_ray.model_sources import ModelFiles, is_folder_or_address, local_folder
from alpagasus_ray.serve.adapter_weights import check_adapter_weights
from alpagasus_ray.serve.model_folder import (
    ADAPTER_CONFIG,
    ServedModel,
    absolute,
    check_adapter_folder,
    check_model_folder,
    check_names_differ,
    is_adapter,
    read_config,
)
from alpagasus_ray.serve.ports import check_invitation

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's max_lora_rank may be."""
CHAT_TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class Engine:
    """A base model's weights, and what is served with them."""

    folder: str
    """The base model's."""
    base: ServedModel | None
    """The base model, where it is to be asked for itself."""
    adapters: tuple[ServedModel, ...] = ()
    max_rank: int = 0
    """The largest of the adapters'."""
    chat_template: str | None = None
    """What the adapters bring. None: the base model's own, which may be none."""

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """Return all that can be asked for."""
        return (*([self.base] if self.base else []), *self.adapters)

    @property
    def model_id(self) -> str:
        """Return what Ray Serve calls the base model."""
        return self.base.name if self.base else f"base-of-{self.adapters[0].name}"

    @property
    def vllm_rank(self) -> int:
        """Return the smallest rank that vLLM can make room for and all adapters fit in."""
        return min(rank for rank in RANKS if rank >= self.max_rank)


@dataclass(frozen=True, slots=True)
class _Adapter:
    model: ServedModel
    base: str
    rank: int
    chat_template: str | None


def checked_engines(models: Sequence[ServedModel], settings: ServeSettings) -> tuple[Engine, ...]:
    """Return the engines of the models.

    Raises UserError where others could reach the endpoint without a key, or a folder cannot be served.
    """
    check_invitation(settings)
    check_names_differ(models)
    return engines_of(models, settings.base_model)


def engines_of(models: Sequence[ServedModel], base_folder: str | None = None) -> tuple[Engine, ...]:
    """Return the engines that serve the models, each of which is looked at.

    `base_folder` is where the adapters' base model lies now; None: where it lay when they were trained. One
    engine answers with one chat template: adapters that bring another one get their own.

    Raises UserError where a folder holds neither a model nor an adapter, or an adapter's base is not there.
    """
    alone = [model for model in models if is_adapter(model.folder)]
    adapters = [_read_adapter(model, base_folder) for model in alone]
    whole = [model for model in models if model not in alone]
    for folder in dict.fromkeys([*(model.folder for model in whole), *(one.base for one in adapters)]):
        check_model_folder(folder)
    for one in adapters:
        check_adapter_weights(one.model.folder, read_config(one.base))
    groups: dict[tuple[str, str | None], list[_Adapter]] = {}
    for one in adapters:
        groups.setdefault((one.base, one.chat_template), []).append(one)
    engines = []
    for model in whole:
        key = (absolute(model.folder), _chat_template(model.folder))
        engines.append(_engine(model, model.folder, groups.pop(key, [])))
    return (*engines, *(_engine(None, base, group) for (base, _), group in groups.items()))


def _engine(base: ServedModel | None, folder: str, adapters: Iterable[_Adapter]) -> Engine:
    group = list(adapters)
    return Engine(
        folder,
        base,
        tuple(one.model for one in group),
        max((one.rank for one in group), default=0),
        group[0].chat_template if group else None,
    )


def _read_adapter(model: ServedModel, base_folder: str | None) -> _Adapter:
    check_adapter_folder(model.folder)
    config = ModelFiles(model.folder).read_json(ADAPTER_CONFIG)
    named, rank = config.get("base_model_name_or_path"), config.get("r")
    rank = max([rank, *(config.get("rank_pattern") or {}).values()]) if isinstance(rank, int) else None
    if rank is None or rank > RANKS[-1]:
        raise UserError(f"{model.folder}: an adapter's rank (r) is a number up to {RANKS[-1]}, not {rank}")
    base = base_folder or named
    if not isinstance(base, str) or not base:
        raise UserError(
            f"{model.folder} does not say which model it adapts: name it with --base-model FOLDER"
        )
    if config.get("use_dora") or config.get("modules_to_save"):
        raise UserError(
            f"{model.folder}: vLLM serves no DoRA and no whole layers: merge it into its base model"
        )
    try:
        base = local_folder(base) if not is_folder_or_address(base) else absolute(base)
    except UserError as error:
        raise UserError(
            f"{model.folder} adapts {base}: {str(error).rstrip('.')}. Name its folder with --base-model"
        ) from error
    return _Adapter(model, base, rank, _chat_template(model.folder) or _chat_template(base))


def _chat_template(folder: str) -> str | None:
    """Return the template that a folder's tokenizer brings."""
    files = ModelFiles(folder)
    if files.exists(CHAT_TEMPLATE_FILE):
        return files.read_text(CHAT_TEMPLATE_FILE)
    if not files.exists("tokenizer_config.json"):
        return None
    template = files.read_json("tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several by name, of which a plain chat takes this one
        template = next((one.get("template") for one in template if one.get("name") == "default"), None)
    return template if isinstance(template, str) else None
