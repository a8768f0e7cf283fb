"""A cluster of `ray start` nodes on this machine, with token authentication."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

STOP_S = 5.0
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Cluster:
    """Where it is, what is needed to enter it, and its nodes, the head first."""

    gcs_address: str
    dashboard_address: str
    environment: dict[str, str]
    nodes: list[subprocess.Popen[bytes]]
    cpus: Sequence[int]
    folder: Path
    log: IO[str]
    unseen: Mapping[int, Path]
    """Folders that a node has not got, by its number: it has an empty one of its own there."""

    @property
    def of_commands(self) -> dict[str, str]:
        """The environment in which a command uses this cluster, and starts no Ray of its own."""
        return {**self.environment, "RAY_ADDRESS": self.gcs_address}

    def inside(self, number: int) -> list[str]:
        """Return what a command begins with that is to run where a node does."""
        return []

    def processes(self, number: int) -> list[psutil.Process]:
        """Return a node's processes, its workers included; none where it has ended."""
        return descendants(self.nodes[number])

    def workers(self, title: str, *numbers: int) -> list[psutil.Process]:
        """Return the processes on its nodes, or on some of them, that Ray shows with these words."""
        nodes = numbers or range(len(self.nodes))
        processes = [process for number in nodes for process in self.processes(number)]
        return [process for process in processes if title in _command_of(process)]

    def replace(self, number: int) -> None:
        """Kill a node with all that runs on it, and start another in its place."""
        self.lose(number)
        self.give_back(number)

    def lose(self, number: int) -> None:
        """Kill a node with all that runs on it."""
        for process in self.processes(number):
            process.kill()
        self.nodes[number].wait()

    def give_back(self, number: int) -> None:
        """Start another node in the place of one that was lost."""
        self.nodes[number] = self._start(number, f"--address={self.gcs_address}")

    def id_of(self, number: int) -> str:
        """Return Ray's own name of a node that is up."""
        script = (
            "import ray\n"
            f"ray.init('{self.gcs_address}', log_to_driver=False)\n"
            "for node in ray.nodes():\n"
            f"    if node['Alive'] and '{_name(number)}' in node['Resources']: print(node['NodeID'])\n"
        )
        command = [*self.inside(0), sys.executable, "-c", script]
        return subprocess.check_output(command, env=self.environment, text=True).strip()

    def announce_the_loss(self, node_id: str, within_s: int) -> None:
        """Tell the cluster what a cloud tells it: that this node will be taken away."""
        command = [RAY, "drain-node", "--address", self.gcs_address, "--node-id", node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken away"]
        command += ["--deadline-remaining-seconds", str(within_s)]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def start_all(self, *head: str) -> None:
        """Start the nodes, one after the other."""
        for number in range(len(self.cpus)):
            which = [f"--address={self.gcs_address}"] if self.nodes else ["--head", *head]
            self.nodes.append(self._start(number, *which))
            wait_for_nodes(self, len(self.nodes))

    def start_command(self, number: int, own: str) -> list[str]:
        """Return the command that starts a node with a temporary folder of its own, without the addresses."""
        # The agent's usual port may be another Ray's on this machine; then no job is taken.
        (agent,) = free_ports(1)
        command = [*self.ray_start(number, own), f"--dashboard-agent-listen-port={agent}"]
        if (unseen := self.unseen.get(number)) is not None:
            hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs own "$0" && exec "$@"', str(unseen)]
            command = [*hide, *command]
        return command

    def ray_start(self, number: int, own: str) -> list[str]:
        """Return the part of it that is the same wherever the node is."""
        command = [RAY, "start", "--block", f"--temp-dir={own}", f"--num-cpus={self.cpus[number]}"]
        return [*command, f"--resources={json.dumps({_name(number): 1})}"]

    def _start(self, number: int, *flags: str) -> subprocess.Popen[bytes]:
        # As on hosts of their own: nodes that share a folder delete each other's working directories.
        own = tempfile.mkdtemp(dir=self.folder)
        return subprocess.Popen(
            [*self.start_command(number, own), *flags],
            env={**self.environment, "TMPDIR": own},
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )


def _name(number: int) -> str:
    return f"node-{number}"


@contextmanager
def started_nodes(
    folder: Path, cpus: Sequence[int], unseen: Mapping[int, Path] | None = None, **variables: str
) -> Iterator[Cluster]:
    """Start a node for each number of CPUs, with variables of Ray's set; end all of them with the block."""
    gcs, dashboard, client = free_ports(3)
    environment = cluster_environment(f"http://127.0.0.1:{dashboard}", **variables)
    head = [f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    head += [f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1"]
    # A short path: sockets stand in it. What the nodes write elsewhere is of no interest afterwards.
    with (
        tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as own,
        (folder / "nodes.log").open("w") as log,
    ):
        cluster = Cluster(
            f"127.0.0.1:{gcs}",
            f"http://127.0.0.1:{dashboard}",
            environment,
            [],
            cpus,
            Path(own),
            log,
            unseen or {},
        )
        try:
            cluster.start_all(*head)
            yield cluster
        finally:
            end(cluster.nodes)


def cluster_environment(dashboard_address: str, **variables: str) -> dict[str, str]:
    """Return what all nodes of a cluster have, its token among it."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray's own processes look for it at the host's first address, and wait, where it is at the loopback.
        "RAY_API_SERVER_ADDRESS": dashboard_address,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **variables,
    }


@contextmanager
def entered(cluster: Cluster, *more: str) -> Iterator[None]:
    """Let this very process use the cluster, with its RAY_ variables and `more` of its environment.

    Ray keeps mode and token of the first cluster for as long as a process lives, unless told to look again.
    """
    from ray._private.authentication_test_utils import reset_auth_token_state

    names = [name for name in cluster.of_commands if name.startswith("RAY_") or name in more]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: cluster.of_commands[name] for name in names})
    reset_auth_token_state()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        reset_auth_token_state()


def descendants(node: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a node's processes, its workers included; none where it has ended."""
    try:
        process = psutil.Process(node.pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(nodes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End nodes with all that they started; who does not go when asked is killed."""
    processes = [process for node in nodes for process in descendants(node)]
    for node in reversed(nodes):
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=STOP_S)
    for process in left:
        process.kill()
    for node in nodes:
        node.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_nodes(cluster: Cluster, count: int) -> None:
    """Return when so many nodes are there."""
    script = (
        "import ray, time\n"
        f"ray.init('{cluster.gcs_address}', log_to_driver=False)\n"
        f"while len([n for n in ray.nodes() if n['Alive']]) < {count}: time.sleep(0.5)\n"
    )
    command = [*cluster.inside(0), sys.executable, "-c", script]
    for _ in range(20):
        done = subprocess.run(command, env=cluster.environment, capture_output=True, timeout=120, check=False)
        if done.returncode == 0:
            return
    raise RuntimeError(f"node {count} did not come up: {done.stderr.decode()[-2000:]}")


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended in the meantime
        return ""
