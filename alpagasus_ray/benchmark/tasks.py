"""Which tasks of lm-evaluation-harness a recipe names. They are looked up before anything is served."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from alpagasus_ray.benchmark.definitions import Definition, content_hash, data_folder
from alpagasus_ray.benchmark.published import BENCHMARKS
from alpagasus_ray.errors import UserError, nearest
from alpagasus_ray.recipe_benchmark_tasks import BenchmarkSettings, is_task_file

NOT_INSTALLED = "benchmarks run through lm-evaluation-harness: pip install '.[benchmark]' in the checkout"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark, ready to be done by any arm."""

    name: str
    """What the user and the report call it."""
    task: str
    """What lm-eval is asked for: a name, or the path of a YAML file."""
    result: str
    """What lm-eval calls its figures."""
    shots: int | None
    """None: what the task itself says."""
    metric: str | None
    """None: the first that the task computes."""
    runs_code: bool
    content: str
    """Hash of the definitions, and of what they name on this machine: functions and data files."""
    index: tuple[str, ...] | None
    """The folders whose definitions lm-eval has to know; None: all of its own too."""
    folder: str
    """Where relative names of data files hold."""
    paper: Mapping[str, float] = field(default_factory=dict)


def find_benchmarks(settings: BenchmarkSettings) -> list[Benchmark]:
    """Return the benchmarks that the settings name, in their order. Nothing is fetched.

    Raises UserError where lm-eval is not installed, a name or a file is not there, or the model's code would
    be run and nobody has allowed it.
    """
    if not settings.tasks:
        return []
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(NOT_INSTALLED)
    library = _Library(settings.include_path)
    found: dict[str, Benchmark] = {}
    for name in settings.tasks:
        benchmark = _find(name, settings, library)
        if benchmark.runs_code and not settings.allow_code:
            raise UserError(
                f"{benchmark.name} runs code that the model writes, on a node of the cluster and as you: "
                "allow it with --allow-code (benchmark.allow_code), or leave the benchmark out"
            )
        if found.setdefault(benchmark.name, benchmark).task != benchmark.task:
            raise UserError(
                f"two benchmarks are called {benchmark.name}: rename the task in one of the files"
            )
    for name in settings.shots:
        if name not in found:
            raise UserError(f"benchmark.shots: {name} is none of the benchmarks.{nearest(name, found)}")
    return list(found.values())


class _Library:
    """lm-eval's definitions of tasks, read as far as they are asked for: all of them take seconds."""

    def __init__(self, include_path: str | None) -> None:
        if include_path is not None and not Path(include_path).is_dir():
            raise UserError(f"benchmark.include_path {include_path}: no such folder")
        self._included = (include_path,) if include_path is not None else ()
        self._indexes: dict[tuple[str, ...] | None, Mapping[str, Any]] = {}

    @property
    def own_folder(self) -> Path:
        """lm-eval's folder of tasks."""
        import lm_eval.tasks

        return Path(lm_eval.tasks.__file__).parent

    def folders(self, shipped: str) -> tuple[str, ...]:
        """Return what has to be known for a task in this folder of lm-eval's own."""
        return (str(self.own_folder / shipped), *self._included)

    @property
    def included(self) -> tuple[str, ...]:
        """The user's own folder of tasks, where there is one."""
        return self._included

    def index(self, folders: tuple[str, ...] | None) -> Mapping[str, Any]:
        """Return lm-eval's entries by name; None: of all its own tasks and the user's."""
        paths = self._included if folders is None else folders
        if folders is None and not paths:
            return _shipped()
        if folders not in self._indexes:
            self._indexes[folders] = _read_index(paths, with_shipped=folders is None)
        return self._indexes[folders]


@cache
def _shipped() -> Mapping[str, Any]:
    """Return the entries of all that lm-eval ships, which do not change under way."""
    return _read_index((), with_shipped=True)


def _read_index(folders: Sequence[str], *, with_shipped: bool) -> Mapping[str, Any]:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=list(folders) or None, include_defaults=with_shipped)
    index: Mapping[str, Any] = manager.task_index
    return index


def _find(name: str, settings: BenchmarkSettings, library: _Library) -> Benchmark:
    published = BENCHMARKS.get(name)
    shots = settings.shots.get(name)
    if is_task_file(name):
        return _of_file(name, settings, library)
    if published is not None:
        folders = library.folders(published.folder)
        return _benchmark(
            name,
            task=published.task,
            definitions=list(_definitions(published.task, library.index(folders))),
            shots=published.shots if shots is None else shots,
            metric=published.metric,
            index=folders,
            paper=published.paper,
        )
    own = library.included
    folders_known = own if own and name in library.index(own) else None
    index = library.index(folders_known)
    if name not in index:
        raise UserError(
            f"there is no benchmark {name}.{_hint(name, BENCHMARKS, index)} Other tasks of lm-eval's go by "
            "their names, one of your own by its FILE.yaml"
        )
    _check_has_one_figure(name, index[name].cfg, index[name].tags)
    return _benchmark(
        name, task=name, definitions=list(_definitions(name, index)), shots=shots, index=folders_known
    )


def _of_file(path: str, settings: BenchmarkSettings, library: _Library) -> Benchmark:
    """Return the benchmark that a YAML file defines; raises UserError where it cannot be read."""
    config = _read(path)
    is_group = "group" in config and "class" not in config
    name = config.get("group") if is_group else config.get("task")
    if not isinstance(name, str):
        raise UserError(f"{path}: a task of lm-evaluation-harness has its name under `task:`")
    # A group may name any task; a task stands for itself.
    folders = None if is_group else library.included
    definitions = [Definition(config, Path(path))]
    if is_group:
        _check_has_one_figure(name, config, ())
        definitions += _members(config, Path(path), library.index(None))
    return _benchmark(name, task=path, definitions=definitions, shots=settings.shots.get(name), index=folders)


def _benchmark(
    name: str,
    *,
    task: str,
    definitions: Sequence[Definition],
    shots: int | None,
    index: tuple[str, ...] | None,
    metric: str | None = None,
    paper: Mapping[str, float] | None = None,
) -> Benchmark:
    return Benchmark(
        name=name,
        task=task,
        result=name if is_task_file(task) else task,
        shots=shots,
        metric=metric,
        runs_code=any(one.config.get("unsafe_code") for one in definitions),
        content=content_hash(definitions),
        index=index,
        folder=data_folder(name, definitions),
        paper=dict(paper or {}),
    )


def _definitions(name: str, index: Mapping[str, Any]) -> Iterator[Definition]:
    """Yield the definition of a task, and those of all that a group holds."""
    entry = index[name]
    config = dict(entry.cfg or {})
    yield Definition(config, entry.yaml_path)
    for tagged in sorted(entry.tags) if not config else ():
        yield from _definitions(tagged, index)
    yield from _members(config, entry.yaml_path, index)


def _members(config: Mapping[str, Any], path: Path | None, index: Mapping[str, Any]) -> Iterator[Definition]:
    """Yield the definitions of a group's members: names, names with changes, or whole tasks."""
    for member in config["task"] if isinstance(config.get("task"), list) else ():
        changes = member if isinstance(member, dict) else {}
        name = changes.get("task", changes.get("group")) if changes else member
        if changes:
            yield Definition(changes, path)
            yield from _members(changes, path, index)
        if isinstance(name, str) and name in index:
            yield from _definitions(name, index)
        elif not changes:
            raise UserError(
                f"the group {config.get('group')} names a task {name} that is not known.{_hint(name, index)} "
                "Tasks of your own lie in --set benchmark.include_path=FOLDER"
            )


def _check_has_one_figure(name: str, config: Mapping[str, Any] | None, tags: Sequence[str]) -> None:
    """Raise UserError for what stands for several tasks, and has no figure of its own."""
    if config is None:  # a tag
        raise UserError(f"{name} stands for several benchmarks: name those that you want: {_listed(tags)}")
    members = config.get("task")
    if isinstance(members, list) and "group" in config and not config.get("aggregate_metric_list"):
        names = [one.get("task", one.get("group")) if isinstance(one, dict) else one for one in members]
        raise UserError(
            f"{name} is a group with no figure of its own (aggregate_metric_list): name its tasks: "
            f"{_listed([str(one) for one in names])}"
        )


def _listed(names: Sequence[str]) -> str:
    shown = sorted(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _hint(name: object, *names: Iterable[str]) -> str:
    """Return the nearest of the first names, or else of the next; where none is near the short names."""
    for known in names:
        if "Did you mean" in (hint := nearest(str(name), known)):
            return hint
    return nearest(str(name), BENCHMARKS)


def _read(path: str) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file (a benchmark's name has no slash and no .yaml)")
    try:
        # As they stand: a function that the file names is only loaded where it is run.
        config: dict[str, Any] = load_yaml(path, resolve_func=False)
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is no task of lm-evaluation-harness: {' '.join(str(error).split())}"
        ) from error
    return config
