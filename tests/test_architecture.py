"""The rules of the house: who may lean on whom, who may import what, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import alpagasus_ray

PACKAGE = "alpagasus_ray"
STAGES = ("grade", "select", "train", "serve", "generate", "compare", "benchmark", "report")
LAYERS = (
    ("", "cache", "causes", "errors", "metrics_table", "recipe_section", "run_paths"),
    ("", "text_files", "recipe_benchmark_tasks", "recipe_judging", "recipe_serving", "recipe_training"),
    ("recipe_benchmarks", "recipe_comparing"),
    ("console", "dashboard", "manifests", "recipe", "schemas"),
    ("storage", "recipe_files"),
    ("claims",),
    ("artifacts", "model_sources"),
    ("event_log", "live_metrics"),
    ("corpus",),
    ("llm",),
    ("cluster_room", "ray_metrics", "ray_session", "shared_folder"),
    ("judge", "submit"),
    STAGES,
    ("answering", "benchmarking"),
    ("mt_bench",),
    ("estimating", "trained_models"),
    ("run_steps",),
    ("pipeline", "run_status"),
    ("command_flags", "commands"),
    ("agreement_commands", "benchmark_commands", "compare_commands", "file_commands", "mt_bench_commands"),
    ("submit_commands", "watch_commands"),
    ("cli",),
    ("__main__",),
)
"""From the ground up: a room leans on rooms of lower layers and on itself, never on its neighbours."""
LAYER = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

RAY = frozenset(
    {
        "cluster_room",
        "ray_metrics",
        "ray_session",
        "shared_folder",
        "llm.budget_actor",
        "benchmark.ray_tasks",
        "generate.offline_road",
        "judge.pool",
        "judge.tidying",
        "train.ray_tokenizing",
        "train.ray_workers",
        "serve.application",
        "serve.serving",
        "submit.ray_jobs",
    }
)
"""The wiring: the only modules that import ray."""
TORCH = ("torch", "transformers", "tokenizers", "safetensors", "deepspeed", "accelerate", "peft")
TOKENIZERS = frozenset({"llm.token_counts"})
"""Outside train/: counts with a tokenizer that is at hand; the library loads no torch."""
LATE = frozenset(
    {
        ("commands", "llm.ledger_report"),
        ("commands", "pipeline"),  # --help and a wrong flag need not wait for Ray
        ("commands", "ray_session"),
        ("__main__", "cli"),  # once it is known that the image has what it takes
        ("commands", "estimating.estimate"),
        ("submit_commands", "submit.ray_jobs"),  # Ray, for --help and a wrong flag not
        ("commands", "train.plan"),
        ("pipeline", "train.tiny_model"),  # torch, for the toy world's base model only
        ("trained_models", "serve.serving"),  # Ray Serve, where a model has to be served
        ("report.reporting", "report.figures"),  # matplotlib, where a page has to be drawn
        ("train.ray_workers", "train.worker"),  # torch, in the workers only
        ("train.ray_tokenizing", "train.models"),
        ("train.checking", "train.models"),  # torch, where a training is about to start
        ("train.workload", "train.models"),  # torch, for chat templates
        ("report.reporting", "report.mt_bench_figures"),
        ("report.reporting", "report.training_figures"),
        ("benchmark.benchmarking", "benchmark.ray_tasks"),  # Ray, where a benchmark is missing
        ("grade.grading", "judge.pool"),  # Ray and the SDK: committed work need not wait for them
        ("agreement_commands", "compare.judging_the_judge"),  # numpy and the judge's parts, as for `compare`
        ("agreement_commands", "ray_session"),
        ("watch_commands", "ray_session"),
        ("judge.rows_judge", "judge.pool"),
        ("generate.roads", "llm.openai_chat"),
        ("answering", "train.asked_tokens"),  # transformers, where answers are made
        ("answering", "generate.offline_road"),
        ("judge.providers", "llm.openai_chat"),
        ("judge.providers", "llm.anthropic_chat"),
    }
)
"""Imports of our own modules inside functions, each for a reason."""
PURE = (
    "artifacts",
    "benchmark_commands",
    "command_flags",
    "commands",
    "console",
    "cli",
    "dashboard",
    "event_log",
    "live_metrics",
    "metrics_table",
    "run_status",
    "run_steps",
    "watch_commands",
    "agreement_commands",
    "file_commands",
    "mt_bench_commands",
    "recipe_files",
    "submit_commands",
    "submit.submission",
    "submit.working_folder",
    "corpus.answers",
    "corpus.committing",
    "corpus.fetching",
    "corpus.mt_bench",
    "corpus.original_answers",
    "corpus.published_sets",
    "corpus.testset_files",
    "corpus.testsets",
    "corpus.toyworld",
    "compare.bootstrap",
    "compare.bradley_terry",
    "compare.categories",
    "compare.length_control",
    "compare.agreement",
    "compare.agreement_table",
    "compare.human_labels",
    "compare.judging_the_judge",
    "compare.logistic",
    "benchmark.benchmarking",
    "benchmark.evaluating",
    "compare.pairing",
    "compare.ranking",
    "compare.sequential",
    "compare.sign_test",
    "compare.statistics",
    "compare.verdicts",
    "estimating.comparing",
    "estimating.estimate",
    "estimating.forecasts",
    "estimating.grading",
    "estimating.mt_bench",
    "estimating.prompt_tokens",
    "grade.guard",
    "grade.importing",
    "grade.pilot",
    "grade.recorded",
    "grade.reviews",
    "judge.answer_key",
    "judge.judging",
    "judge.metering",
    "judge.bracketed",
    "judge.mt_bench_prompts",
    "judge.requests",
    "judge.rubric_files",
    "judge.rubric_sets",
    "judge.rubrics",
    "judge.scores",
    "llm.anthropic_chat",
    "llm.asking",
    "llm.failures",
    "llm.ledger",
    "llm.openai_chat",
    "llm.prices",
    "llm.token_counts",
    "llm.rate_limits",
    "llm.wire",
    "mt_bench.answers",
    "mt_bench.bench",
    "mt_bench.figures",
    "mt_bench.rows",
    "report.mt_bench",
    "report.reporting",
    "select.selecting",
    "select.selectors",
    "serve.adapter_weights",
    "serve.bodies",
    "serve.guard",
    "serve.ports",
    "serve.rayservice",
    "serve.refusals",
    "serve.serve_config",
    "generate.exporting",
    "generate.generating",
    "generate.importing",
    "train.attempts",
    "train.base_models",
    "train.batches",
    "train.checkpoint_storage",
    "train.checking",
    "train.deepspeed_checks",
    "train.deepspeed_config",
    "train.deepspeed_presets",
    "train.devices",
    "train.examples",
    "train.fitting",
    "train.flops",
    "train.gpus",
    "train.job",
    "train.memory",
    "train.metering",
    "train.metrics",
    "train.model_card",
    "train.model_shape",
    "train.op_builds",
    "train.parity",
    "train.plan",
    "train.prompting",
    "train.progress",
    "train.recording",
    "train.schedule",
    "train.token_table",
    "train.tokenizing",
    "train.tracking",
    "train.validation",
    "train.workload",
)
"""Modules that must load, with all that they import, without Ray, torch or vLLM."""
MAX_LINES, USUAL_LINES = 300, 250


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    source: str
    """The importing module, without the package's name."""
    target: str
    """What is imported, in full."""
    line: int
    is_late: bool
    """Inside a function."""
    is_for_types: bool
    """Under `if TYPE_CHECKING`."""

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    @property
    def own(self) -> str | None:
        """The target without the package's name, where it is one of ours."""
        return self.target.removeprefix(PACKAGE).removeprefix(".") if self.top == PACKAGE else None


def room(module: str) -> str:
    return module.partition(".")[0]


def imports_of(module: str, source: str, known: frozenset[str]) -> Iterator[Import]:
    """Yield every import of a module, wherever in the file it stands, and however it is written."""

    def walk(node: ast.AST, late: bool, types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for target in _targets(child, known):
                yield Import(module, target, child.lineno, late, types)  # type: ignore[attr-defined]
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, late or is_function, types or is_guard)

    yield from walk(ast.parse(source), False, False)


def _targets(node: ast.AST, known: frozenset[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f"{PACKAGE}.relative-import"]
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in known else str(node.module) for name in names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func)
        if called == "__import__" or called.endswith("import_module"):
            return [str(node.args[0].value)]
    return []


def all_imports(modules: Mapping[str, str]) -> list[Import]:
    """Return the imports of modules, given as source by name (without the package's)."""
    known = frozenset(f"{PACKAGE}.{name}".rstrip(".") for name in {**MODULES, **modules})
    return [found for name, source in modules.items() for found in imports_of(name, source, known)]


def violations(imports: Iterable[Import]) -> list[str]:
    """Return the broken rules in words."""
    return [f"{found.source}, line {found.line}: {broken}" for found in imports if (broken := _broken(found))]


def _broken(found: Import) -> str | None:
    here = room(found.source)
    if found.own is not None:
        there = room(found.own)
        if unknown := {here, there} - set(LAYER):
            return f"{unknown.pop()} is no known room: give it a layer"
        if here in STAGES and there in STAGES and here != there:
            return f"stage {here} leans on stage {there}"
        if here != there and LAYER[there] >= LAYER[here]:
            return f"{here} leans on {there}, which stands above it or beside it"
        if found.is_late and (found.source, found.own) not in LATE:
            return f"{found.own} is imported inside a function, and is not in the list of those that may be"
        return None
    if found.top == "ray" and found.source not in RAY:
        return "ray is imported outside the wiring"
    if found.top == "tokenizers" and found.source in TOKENIZERS and found.is_late:
        return None
    if found.top in TORCH and here != "train":
        return f"{found.top} is imported outside train/"
    if found.top == "vllm" and here != "serve":
        return "vllm is imported outside serve/"
    return None


def package_modules() -> dict[str, str]:
    root = Path(alpagasus_ray.__file__).parent
    modules = {}
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        modules[name.removesuffix("__init__").removesuffix(".")] = path.read_text(encoding="utf-8")
    return modules


MODULES = package_modules()
IMPORTS = all_imports(MODULES)


def test_the_package_is_found() -> None:
    assert {"artifacts", "select.selectors", "judge.pool", "train.engines.fsdp2"} <= set(MODULES)


def test_every_room_has_its_layer() -> None:
    assert {room(name) for name in MODULES} - set(LAYER) == set()


def test_nobody_breaks_the_rules() -> None:
    assert violations(IMPORTS) == []


def test_the_lists_of_exceptions_name_only_what_is_there() -> None:
    """A stale exception would let the next import pass unseen."""
    assert RAY - {one.source for one in IMPORTS if one.top == "ray"} == set()
    assert TOKENIZERS - {one.source for one in IMPORTS if one.top == "tokenizers"} == set()
    assert LATE - {(one.source, one.own) for one in IMPORTS if one.is_late} == set()


@pytest.mark.parametrize(
    ("module", "source", "broken"),
    [
        ("select.bad", "from alpagasus_ray.grade.reviews import Review", "stage select leans on stage grade"),
        ("report.bad", "from alpagasus_ray.compare import verdicts", "stage report leans on stage compare"),
        ("train.bad", "import alpagasus_ray.serve.ports", "stage train leans on stage serve"),
        ("llm.bad", "from alpagasus_ray.judge.rubrics import Rubric", "llm leans on judge"),
        ("judge.bad", "from alpagasus_ray.grade import reviews", "judge leans on grade"),
        ("corpus.bad", "from alpagasus_ray.llm.chat import Reply", "corpus leans on llm"),
        ("grade.bad", "from alpagasus_ray.pipeline import Pipeline", "grade leans on pipeline"),
        ("pipeline", "from alpagasus_ray import cli", "pipeline leans on cli"),
        ("errors", "from alpagasus_ray.artifacts import RunDirectory", "errors leans on artifacts"),
        ("corpus.bad", "from .triplets import Triplet", "is no known room"),
        ("select.bad", "def f():\n    import ray.data", "ray is imported outside the wiring"),
        ("select.bad", "try:\n    from ray import data\nexcept ImportError:\n    pass", "outside the wiring"),
        ("grade.bad", "__import__('ray')", "ray is imported outside the wiring"),
        ("grade.bad", "import importlib\nimportlib.import_module('ray.data')", "outside the wiring"),
        ("corpus.bad", "import torch.nn as nn", "torch is imported outside train/"),
        ("judge.bad", "from transformers import AutoTokenizer", "transformers is imported outside train/"),
        ("judge.bad", "def f():\n    import tokenizers", "tokenizers is imported outside train/"),
        ("llm.token_counts", "import tokenizers", "tokenizers is imported outside train/"),
        (
            "generate.bad",
            "class A:\n    def f(self):\n        import vllm",
            "vllm is imported outside serve/",
        ),
        ("train.bad", "def f():\n    from vllm import LLM", "vllm is imported outside serve/"),
        ("grade.bad", "def f():\n    from alpagasus_ray.judge import scores", "inside a function"),
        ("novelty.bad", "from alpagasus_ray.errors import UserError", "novelty is no known room"),
        ("select.bad", "from alpagasus_ray.novelty import other", "novelty is no known room"),
    ],
)
def test_the_checker_sees_a_broken_rule(module: str, source: str, broken: str) -> None:
    assert broken in " ".join(violations(all_imports({module: source})))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("select.good", "from alpagasus_ray.corpus.triplets import Triplet\nimport pyarrow as pa"),
        ("grade.good", "from alpagasus_ray.judge import scores\nfrom alpagasus_ray.grade import reviews"),
        ("train.good", "def f():\n    import torch"),
        ("serve.good", "def f():\n    from vllm import LLM"),
        ("llm.good", "import rayon\nimport torchless"),
    ],
)
def test_the_checker_lets_good_modules_pass(module: str, source: str) -> None:
    assert violations(all_imports({module: source})) == []


def test_no_module_hides_an_import() -> None:
    hidden = [name for name, source in MODULES.items() if "__import__(" in source]
    assert hidden == []


@pytest.mark.parametrize("forbidden", ["ray", "torch", "vllm"])
def test_what_must_not_wait_for_ray_does_not_reach_it(forbidden: str) -> None:
    """Follow the imports at the top of the modules from each pure one, as loading it would."""
    found = [one for one in IMPORTS if not one.is_late and not one.is_for_types]
    reaching = {one.source for one in found if one.top == forbidden}
    assert reaching or forbidden == "vllm"
    while new := {one.source for one in found if one.own in reaching} - reaching:
        reaching |= new
    assert set(PURE) & reaching == set()


def test_pure_modules_load_without_ray_torch_and_vllm() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {PURE!r}:\n"
        f"    importlib.import_module('{PACKAGE}.' + name)\n"
        "    heavy = {'ray', 'torch', 'transformers', 'vllm'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_no_file_is_long() -> None:
    lengths = {name: len(source.splitlines()) for name, source in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length >= MAX_LINES} == {}


def test_most_files_are_short() -> None:
    lengths = [len(source.splitlines()) for source in MODULES.values()]
    assert sum(length < USUAL_LINES for length in lengths) >= 0.85 * len(lengths)


def test_everything_public_says_what_it_is_for() -> None:
    silent = [
        f"{name}.{node.name}"
        for name, source in MODULES.items()
        for node in _public(ast.parse(source))
        if not (ast.get_docstring(node) or "").strip()
    ]
    assert silent == []


def _public(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from _public(node)
