"""The connection to Ray: made when the first stage needs it, quiet, and closed at the end."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.chat import EndpointError

# Read once, when Ray is imported; this module comes before every import of Ray.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

# Ray Train asks a dashboard who is alive, and where there is none waits 12 s for it at the end of
# each training, unless an address is given: nothing listens at this one, and it is content.
WITHOUT_DASHBOARD = {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9"}
ANSWERS_WITHIN_S = 10.0
POLL_S = 1.0
WRONG_TOKEN = "it wants its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH)"


class RaySession:
    """A context in which `connect()` gives a Ray that is up.

    Inside a Ray job, or with RAY_ADDRESS set, the cluster there is used; otherwise a Ray of our own is
    started on this machine and stopped at the end, and its logs are copied into the run directory.
    """

    def __init__(self, log_folder: Path | None = None, wait_for_nodes_s: float = 0.0) -> None:
        self._log_folder, self._wait_for_nodes_s = log_folder, wait_for_nodes_s
        self._session_logs: Path | None = None
        self._connected = False

    def __enter__(self) -> RaySession:
        return self

    def connect(self) -> dict[str, float]:
        """Return the cluster's resources, such as {"CPU": 8.0}; connects, or starts Ray here, at first.

        Raises UserError where the cluster that RAY_ADDRESS names cannot be reached.
        """
        # Imported here, as everywhere in the driver: seconds that a run with nothing to do need not wait.
        import ray

        if not ray.is_initialized():
            self._connect()
        resources: dict[str, float] = ray.cluster_resources()
        return resources

    def wait_for(self, needed: Mapping[str, float], say: Callable[[str], None]) -> dict[str, float]:
        """Return the cluster's resources once they hold these, or after the wait that the recipe allows.

        A cluster whose nodes come when they are asked for is asked; a Ray of our own grows no more.
        """
        resources = self.connect()
        if not (lacking := _lacking(needed, resources)) or not os.environ.get("RAY_ADDRESS"):
            return resources
        from ray.autoscaler.sdk import request_resources

        say(f"waiting up to {self._wait_for_nodes_s:g} s for {lacking} (wait_for_nodes_s)")
        until_s = time.monotonic() + self._wait_for_nodes_s
        one_each = [{kind: 1.0} for kind, amount in needed.items() for _ in range(math.ceil(amount))]
        request_resources(bundles=one_each)
        try:
            while _lacking(needed, resources) and time.monotonic() < until_s:
                time.sleep(POLL_S)
                resources = self.connect()
        finally:
            request_resources(bundles=[])  # from now on it is the work that keeps the nodes
        return resources

    def metrics_pages(self) -> list[str]:
        """Return where the cluster's nodes show their metrics; raises UserError as `connect` does."""
        self.connect()
        import ray

        return [
            f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            for node in ray.nodes()
            if node["Alive"]
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._connected:
            return
        import ray
        from ray.exceptions import RuntimeEnvSetupError

        ray.shutdown()
        if self._session_logs is not None and self._log_folder is not None:
            link = self._log_folder / "ray"
            if link.is_symlink():
                link.unlink()
            shutil.copytree(self._session_logs, link, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        if isinstance(error, RuntimeEnvSetupError):
            raise UserError(_unfit_node(str(error))) from error

    def _connect(self) -> None:
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _check_address(address)
        import ray
        import ray.data

        here = {} if address else {"include_dashboard": False}
        surroundings = nullcontext() if address else _environment(WITHOUT_DASHBOARD)
        self._connected = True
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with surroundings:
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
        except Exception as error:
            if (line := _what_to_mend(error, address)) is None:
                raise
            raise UserError(line) from error
        if threading.current_thread() is threading.main_thread():
            # Ray takes SIGTERM for itself and ends the process at once, with no word to the user.
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if not address:
            self._link_logs(Path(ray._private.worker._global_node.get_logs_dir_path()))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # Else Ray warns of each column that holds objects (the offline road's settings of an engine).
        context.enable_fallback_to_arrow_object_ext_type = True

    def _link_logs(self, session_logs: Path) -> None:
        """Show the logs of the Ray that runs as RUN/logs/ray; its sockets want a shorter path to live at."""
        if self._log_folder is None:
            return
        self._session_logs = session_logs
        self._log_folder.mkdir(parents=True, exist_ok=True)
        link = self._log_folder / "ray"
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        link.symlink_to(session_logs)


def _what_to_mend(error: Exception, address: str | None) -> str | None:
    """Return one line on a Ray that did not come up, or could not be entered; None: it is a defect."""
    words = " ".join(str(error).split())
    # Ray has no classes of its own for these.
    if "AF_UNIX path" in words:
        return (
            "Ray's sockets would lie too deep in the temporary folder (their paths have 107 bytes at most): "
            "set RAY_TMPDIR=/tmp"
        )
    if "timed out during startup" in words:
        return "Ray did not come up within 30 s: this machine is overloaded. Run the same command again"
    is_refused = address is not None and words.startswith("Failed to connect")  # after it has answered
    if is_refused or type(error).__name__ == "AuthenticationError":
        words = WRONG_TOKEN
    elif not isinstance(error, ConnectionError | RuntimeError | ValueError):
        return None
    return f"Ray at {address or 'this machine'} cannot be reached: {words}"


def _unfit_node(words: str) -> str:
    """Return in one line which node cannot take part in a job, and why, from Ray's traceback of it."""
    node = re.search(r"\[Node ([^\]]+)\]", words)
    why = [line.strip() for line in words.splitlines() if line.strip()][-1]
    which = f"node {node[1]}" if node else "a node"
    return (
        f"{which} cannot take part in the job: {why}. Mend it or take it out of the cluster; what was "
        "finished is kept, the same command goes on from there"
    )


def _lacking(needed: Mapping[str, float], resources: Mapping[str, float]) -> str:
    """Return in words what is needed and not there, such as `4 GPU (the cluster has 0)`; empty: nothing."""
    return ", ".join(
        f"{amount:g} {kind} (the cluster has {resources.get(kind, 0.0):g})"
        for kind, amount in needed.items()
        if amount > resources.get(kind, 0.0)
    )


def _check_address(address: str) -> None:
    """Raise UserError where no Ray answers: Ray itself would try for two minutes, and end the process."""
    if address.startswith("http"):
        raise UserError(
            f"RAY_ADDRESS is {address}, where jobs are submitted: `alpagasus submit` does that. On a node of "
            "the cluster it is HEAD:6379, or auto"
        )
    if address.startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS is {address}, a door for Ray's client that Ray Train and Serve do not use: "
            "take HEAD:6379 on a node of the cluster, or `alpagasus submit` from anywhere"
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return  # auto, local: Ray's own to find
    # Imported here: what takes seconds need not be waited for.
    import grpc

    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN_S / 2):
            pass
        if os.environ.get("RAY_USE_TLS", "0") in ("0", "false"):
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(timeout=ANSWERS_WITHIN_S)
    except (OSError, OverflowError, grpc.FutureTimeoutError) as error:
        why = getattr(error, "strerror", None) or f"no answer within {ANSWERS_WITHIN_S:g} s"
        raise UserError(f"no Ray cluster at {address} (RAY_ADDRESS): {why}") from error


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Hand more environment variables down to the processes that are started in it."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def root_cause(error: BaseException) -> BaseException:
    """Return the exception of our own at the bottom of what Ray wraps around it, or else the last cause.

    An EndpointError or UserError raised in an actor arrives inside several layers.
    """
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        # Ray's own wrapper is of both classes, and its text is the whole trace: its cause is what is meant.
        inner = getattr(current, "cause", None)
        if isinstance(current, EndpointError | UserError) and not isinstance(inner, BaseException):
            return current
        current = inner if isinstance(inner, BaseException) else current.__cause__
    return seen[-1]
