"""The stages that ask trained models: served once, they answer test sets, benchmarks and MT-Bench."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from alpagasus_ray.answering import check_token_parity, check_window, offline_road
from alpagasus_ray.artifacts import RunDirectory
from alpagasus_ray.benchmark.benchmarking import Benchmarks
from alpagasus_ray.benchmarking import do_benchmarks
from alpagasus_ray.console import Console
from alpagasus_ray.errors import UserError
from alpagasus_ray.generate.generating import Generation, check_answer_length
from alpagasus_ray.generate.roads import EndpointRoad, Remembered
from alpagasus_ray.mt_bench.running import arms_to_ask, check_mt_bench, run_mt_bench
from alpagasus_ray.ray_session import RaySession
from alpagasus_ray.recipe import Recipe, ServeSettings
from alpagasus_ray.recipe_files import require_key
from alpagasus_ray.serve.endpoint import Endpoint, warm_up
from alpagasus_ray.serve.engine_settings import needed_resources, shortage, uses_gpus
from alpagasus_ray.serve.engines import checked_engines
from alpagasus_ray.serve.model_folder import ServedModel, is_adapter, models_named_by_folder
from alpagasus_ray.serve.ports import address_for_others, check_port_free
from alpagasus_ray.serve.sharing import SharedEndpoint
from alpagasus_ray.shared_folder import check_shared

if TYPE_CHECKING:
    from alpagasus_ray.generate.offline_road import OfflineRoad


class TrainedModels:
    """The models of a run, and whoever has questions to them."""

    def __init__(self, run: RunDirectory, recipe: Recipe, session: RaySession, console: Console) -> None:
        self.run, self.recipe, self.session, self.console = run, recipe, session, console
        self._shared: SharedEndpoint | None = None
        self.set_aside: list[str] = []
        """Benchmarks that could not be done, each with its reason."""

    def check(self) -> None:
        """Raise UserError for whatever would keep the models from being asked."""
        require_key(self.recipe.generate.api_key_env)
        check_answer_length(self.recipe)
        require_key(self.recipe.benchmark.api_key_env)
        assert self.benchmarks is not None  # looked up: a wrong name is told here
        check_mt_bench(self.run, self.recipe)

    def ask(self, arms: Sequence[str]) -> None:
        """Commit everything that the recipe wants to know of these arms' models, which are served once."""
        generations = [Generation(self.run, self.recipe, arm) for arm in arms]
        with SharedEndpoint(self._open_endpoint, self._models_to_ask(generations)) as self._shared:
            self._generate(generations)
            self.benchmark(arms)
            if self.recipe.mt_bench is not None:
                self.mt_bench()

    def serve(self, folders: Sequence[str], wait: Callable[[], None]) -> None:
        """Serve Hugging Face folders, each under its own name, until `wait` returns."""
        models, settings = models_named_by_folder(folders), self.recipe.serve
        if settings.base_model and not any(is_adapter(model.folder) for model in models):
            self.console.say(f"serve.base_model ({settings.base_model}) is unused: none is an adapter")
        with self._open(models, settings) as endpoint:
            warm_up(endpoint)
            names = ", ".join(endpoint.model_names)
            address, port = address_for_others(settings.host), urlsplit(endpoint.base_url).port
            others = f"from elsewhere http://{address}:{port}/v1; " if address else ""
            self.console.result(f"{names} at {endpoint.base_url} ({others}Ctrl-C stops)")
            wait()

    def generate(self, arms: Sequence[str]) -> None:
        """Commit the arms' answers, serving their models meanwhile where no endpoint is given."""
        self._generate([Generation(self.run, self.recipe, arm) for arm in arms])

    def _generate(self, generations: Sequence[Generation]) -> None:
        committed = [(generation, generation.committed()) for generation in generations]
        missing = [generation for generation, made in committed if made is None]
        if not missing:
            said = f"generate: {', '.join(generation.arm for generation in generations)} done before"
            lacking = [generation.lacking(made) for generation, made in committed if made is not None]
            self.console.say("; ".join(filter(None, (said, *lacking))))
            return
        to_ask = []
        for generation in missing:
            if (replies := generation.replies_of_before) is None:
                to_ask.append(generation)
            else:
                generation.make(Remembered(replies), self.console)
        if to_ask:
            self._ask_for_answers(to_ask)

    def _ask_for_answers(self, missing: Sequence[Generation]) -> None:
        settings = self.recipe.generate
        if settings.base_url is not None:
            road = EndpointRoad(settings.base_url, require_key(settings.api_key_env), settings)
            for generation in missing:
                self.console.say(
                    f"generate: asking {settings.base_url} for {generation.arm} (generate.base_url)"
                )
                generation.make(road, self.console)
            return
        folders = {one.arm: self.run.child_uri(self.run.model(one.arm)) for one in missing}
        if settings.road == "offline":
            for generation in missing:
                generation.make(self._offline_road(generation, folders[generation.arm]), self.console)
            return
        models = [ServedModel(*one) for one in folders.items()]
        for model in models:
            check_window(model, settings.max_new_tokens, self.recipe.serve, "generate.max_new_tokens")
        with self._serving(models) as endpoint:
            for generation in missing:
                check_token_parity(endpoint, generation, folders[generation.arm])
                road = EndpointRoad(endpoint.base_url, endpoint.api_key, settings, is_ours=True)
                generation.make(road, self.console)

    def _offline_road(self, generation: Generation, folder: str) -> OfflineRoad:
        resources = self.session.connect()
        check_shared(self.run, "--run-dir")
        self.console.say(f"generate: starting vLLM for {generation.arm} (generate.road is offline)")
        return offline_road(generation, folder, self.recipe.serve, resources)

    @cached_property
    def benchmarks(self) -> Benchmarks:
        """The benchmarks that the recipe names; raises UserError for one that is not there."""
        return Benchmarks(self.run, self.recipe)

    def benchmark(self, arms: Sequence[str]) -> None:
        """Commit the arms' figures in the recipe's benchmarks; what could not be done is in `set_aside`."""
        self.set_aside += do_benchmarks(
            self.benchmarks,
            self.run,
            self.recipe,
            arms,
            connect=self.session.connect,
            serving=self._serving,
            console=self.console,
        )

    def mt_bench(self) -> None:
        """Commit the arms' answers to MT-Bench and the judge's scores."""
        run_mt_bench(self.run, self.recipe, self._serving, self.session, self.console)

    def _models_to_ask(self, generations: Sequence[Generation]) -> list[ServedModel]:
        """Return the models that have to be served for answers, benchmarks or MT-Bench that are missing."""
        for_answers = (self.recipe.generate.base_url, self.recipe.generate.road) == (None, "endpoint")
        for_benchmarks = self.recipe.benchmark.base_url is None
        asked = [
            one.arm
            for one in generations
            if (for_answers and not one.committed() and one.replies_of_before is None)
            or (for_benchmarks and self.benchmarks.missing(one.arm))
        ]
        asked += arms_to_ask(self.run, self.recipe)
        return [ServedModel(arm, self.run.child_uri(self.run.model(arm))) for arm in dict.fromkeys(asked)]

    @contextmanager
    def _serving(self, models: Sequence[ServedModel]) -> Iterator[Endpoint]:
        with (self._shared.serving if self._shared else self._open_endpoint)(models) as endpoint:
            yield endpoint

    @contextmanager
    def _open_endpoint(self, models: Sequence[ServedModel]) -> Iterator[Endpoint]:
        """An endpoint for stages of this run alone."""
        self.session.connect()
        check_shared(self.run, "--run-dir")  # the replicas read the models there
        own = self.recipe.serve.of_a_stage(self.recipe.generate.timeout_s)
        with self._open(models, own) as endpoint:
            yield endpoint

    @contextmanager
    def _open(self, models: Sequence[ServedModel], settings: ServeSettings) -> Iterator[Endpoint]:
        engines = checked_engines(models, settings)
        require_key(settings.api_key_env)
        check_port_free(settings.host, settings.port)
        # Imported here: Ray Serve takes seconds that a run with nothing to serve need not wait.
        from alpagasus_ray.serve.serving import serving

        on_gpu = uses_gpus(settings, self.session.connect())
        needed = needed_resources(len(engines), settings, on_gpu=on_gpu)
        resources = self.session.wait_for(needed, self.console.say)
        if lacking := shortage(len(engines), settings, resources, on_gpu=on_gpu):
            raise UserError(f"{lacking}: add nodes, serve fewer models, or raise wait_for_nodes_s")
        with serving(models, settings, report=self.console.say) as endpoint:
            yield endpoint
