"""The models behind one endpoint: ray.serve.llm with vLLM. The wiring."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray import serve
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    DeploymentStatus,
    DeploymentStatusOverview,
)

from alpagasus_ray.causes import cause_in_one_line, last_logged_cause
from alpagasus_ray.cluster_room import groups_wait_for_room
from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe_files import require_key
from alpagasus_ray.serve.application import build_application
from alpagasus_ray.serve.endpoint import Endpoint, NotAnsweringError, RefusedError, wait_until_answering
from alpagasus_ray.serve.engine_settings import APPLICATION, deployment_name, uses_gpus
from alpagasus_ray.serve.engines import Engine, checked_engines
from alpagasus_ray.serve.guard import Admission
from alpagasus_ray.serve.model_folder import ServedModel
from alpagasus_ray.serve.ports import address_to_ask, reserved_port

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

POLL_S = 1.0
TELL_EVERY_S = 30.0
"""While models load, that somebody who waits sees that it goes on."""
SERVER_CLASS = "FolderServer"
SERVE = "serve"
"""The namespace of Serve's own actors, and of the replicas."""
CONTROLLER = "SERVE_CONTROLLER_ACTOR"
DIED_LATER = "health check failed"
"""All that Serve says of an engine that has died once it was loaded."""
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
"""Of an application and of a deployment: Serve gives it up, or has lost it."""


@contextmanager
def serving(
    models: Sequence[ServedModel],
    settings: ServeSettings,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[Endpoint]:
    """Serve the models behind one OpenAI-compatible endpoint for as long as the context lasts.

    Ray is up already; the endpoint listens on its head node. The body starts once every model has answered;
    `report` gets a line when something has changed. At the end, whatever ended it, no process and no actor of
    the endpoint is left.

    Raises UserError when others could reach it without a key, a folder is no model, the port is taken, Serve
    runs already, a model cannot be loaded, or not all of them answer within `settings.startup_timeout_s`.
    """
    engines = checked_engines(models, settings)
    key = require_key(settings.api_key_env)
    with reserved_port(settings.host, settings.port) as port:
        status = serve.status()
        if status.proxies or status.applications:
            raise UserError("Ray Serve runs in this cluster already: stop it first with `serve shutdown`.")
        startup = _Startup(
            engines=engines,
            settings=settings,
            key=key,
            port=port,
            until_s=time.monotonic() + settings.startup_timeout_s,
            report=report,
        )
        try:
            startup.deploy()
            startup.wait_until_loaded()
            yield startup.wait_until_answering()
        finally:
            _stop_serve()


@dataclass(frozen=True)
class _Startup:
    """The way from folders to an endpoint that answers."""

    engines: tuple[Engine, ...]
    settings: ServeSettings
    key: str | None = field(repr=False)
    port: int
    until_s: float
    report: Callable[[str], None]

    @property
    def model_names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return tuple(model.name for engine in self.engines for model in engine.models)

    @property
    def _counted(self) -> str:
        num_adapters = sum(len(engine.adapters) for engine in self.engines)
        return f"{len(self.engines)} model(s)" + (f" with {num_adapters} adapter(s)" if num_adapters else "")

    def deploy(self) -> None:
        """Hand the models to Serve, which starts them all at once."""
        resources = ray.cluster_resources()
        on_gpu = uses_gpus(self.settings, resources)
        self.report(f"starting {self._counted} on {'GPUs' if on_gpu else 'CPUs'}")
        # The ingress listens itself.
        serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False})
        admission = Admission.of(self.settings, self.key)
        application = build_application(
            self.engines, self.settings, admission, on_gpu=on_gpu, own_port=self.port
        )
        serve.run_many(
            [serve.RunTarget(application, name=APPLICATION, route_prefix="/")],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def wait_until_loaded(self) -> None:
        """Return once Serve says that everything runs, telling how many models are loaded."""
        told, told_of_room = 0, False
        begun_s = time.monotonic()
        tell_at_s = begun_s + TELL_EVERY_S
        while True:
            application = self._check_alive()
            loaded = [engine for engine in self.engines if self._is_loaded(application, engine)]
            if len(loaded) > told:
                told = len(loaded)
                self.report(f"{told} of {len(self.engines)} models loaded")
            if application.status == ApplicationStatus.RUNNING:
                return
            if time.monotonic() >= tell_at_s:
                tell_at_s += TELL_EVERY_S
                elapsed_s = time.monotonic() - begun_s
                self.report(f"{len(loaded)} of {len(self.engines)} models loaded after {elapsed_s:.0f} s")
            if not told_of_room and (words := groups_wait_for_room()):
                told_of_room = True
                self.report(words)
            if time.monotonic() >= self.until_s:
                late = ", ".join(one.model_id for one in self.engines if one not in loaded) or "the endpoint"
                raise UserError(
                    f"After {self.settings.startup_timeout_s:g} s, {late} has not started: "
                    "free CPUs, GPUs or memory, serve fewer models, or raise serve.startup_timeout_s."
                )
            time.sleep(POLL_S)

    def wait_until_answering(self) -> Endpoint:
        """Return the endpoint once each model has completed a token through it."""
        base_url = f"http://{address_to_ask(self.settings.host)}:{self.port}/v1"
        endpoint = Endpoint(base_url, self.model_names, self.key)
        try:
            wait_until_answering(endpoint, self.until_s - time.monotonic(), while_waiting=self._check_alive)
        except RefusedError as error:
            raise UserError(f"The endpoint is up, but does not answer: {error}") from error
        except NotAnsweringError as error:
            raise UserError(
                f"The models are loaded, but {base_url} does not answer from this machine ({error}): "
                "run this on the cluster's head node."
            ) from error
        self.report("every model has answered")
        return endpoint

    def _check_alive(self) -> ApplicationStatusOverview:
        """Return Serve's view of the application; raises UserError once it has given it up."""
        application = serve.status().applications[APPLICATION]
        if application.status not in FAILED:
            return application
        for engine in self.engines:
            deployment = self._deployment(application, engine)
            if deployment is not None and deployment.status in FAILED:
                cause = cause_in_one_line(deployment.message)
                if DIED_LATER in cause:
                    cause = _logged_cause() or cause
                raise UserError(
                    f'"{engine.model_id}" ({engine.folder}) cannot be served: {cause} (all of it: {_logs()})'
                )
        raise UserError(f"The endpoint has failed: {cause_in_one_line(application.message)}")

    def _deployment(
        self, application: ApplicationStatusOverview, engine: Engine
    ) -> DeploymentStatusOverview | None:
        """Return the state of one engine, None before Serve has heard of it."""
        name = deployment_name(engine.model_id, self.engines.index(engine))
        return application.deployments.get(f"{SERVER_CLASS}:{name}")

    def _is_loaded(self, application: ApplicationStatusOverview, engine: Engine) -> bool:
        deployment = self._deployment(application, engine)
        return deployment is not None and deployment.status == DeploymentStatus.HEALTHY


def _logs() -> str:
    """Return where the replicas' own words are."""
    return f"{_log_folder()}/worker-*.out" if _log_folder() is not None else "Ray's log of the replica"


def _log_folder() -> Path | None:
    """Return where this node's Ray keeps its logs."""
    node = ray._private.worker._global_node
    return Path(node.get_logs_dir_path()) if node is not None else None


def _logged_cause() -> str | None:
    """Return what an engine on this node said last before it died."""
    folder = _log_folder()
    files = sorted(folder.glob("worker-*.out"), key=lambda file: -file.stat().st_mtime) if folder else []
    causes = (last_logged_cause(file.read_text(encoding="utf-8", errors="replace")) for file in files)
    return next(filter(None, causes), None)


def _stop_serve() -> None:
    """Stop Serve and all it started; what has not ended by itself is killed."""
    if not ray.is_initialized():
        return
    serve.shutdown()
    left = [actor for actor in ray.util.list_named_actors(all_namespaces=True) if actor["namespace"] == SERVE]
    # The controller first: it would start again what is killed.
    for actor in sorted(left, key=lambda actor: actor["name"] != CONTROLLER):
        with suppress(ValueError):  # gone in the meantime
            ray.kill(ray.get_actor(actor["name"], SERVE))
