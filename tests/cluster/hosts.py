"""A cluster of hosts on this machine: network namespaces, with an address, name and folder of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.network import Network
from tests.cluster.nodes import Cluster, cluster_environment, end

GCS_PORT, DASHBOARD_PORT = 6379, 8265
SOON_NOTICED = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""A host that does not answer is given up after about 9 s."""


@dataclass(frozen=True)
class Hosts(Cluster):
    """Ray's nodes on hosts of their own, the head's first."""

    network: Network
    disk_bytes: Mapping[int, int]
    """How much a host's temporary folder holds, by its number; where it is not said, as much as the disk."""

    def inside(self, number: int) -> list[str]:
        return self.network.inside(number)

    def processes(self, number: int) -> list[psutil.Process]:
        return self.network.processes(number)

    def lose(self, number: int) -> None:
        self.network.kill(number)
        self.nodes[number].wait()

    def give_back(self, number: int) -> None:
        self.lose(number)
        self.network.restore(number)
        super().give_back(number)

    def start_command(self, number: int, own: str) -> list[str]:
        address = self.network.address_of(number)
        command = [*self.ray_start(number, own), f"--node-ip-address={address}"]
        if (size := self.disk_bytes.get(number)) is not None:
            # Within the host's own mounts: it goes with its processes.
            small = f'mount -t tmpfs -o size={size} own "$0" && exec "$@"'
            command = ["sh", "-c", small, own, *command]
        return [*self.inside(number), *command]

    def disk(self, number: int) -> Path:
        """Return a host's temporary folder, as it is seen from outside."""
        command: list[str] = list(self.nodes[number].args)  # type: ignore[arg-type]
        own = next(word.partition("=")[2] for word in command if word.startswith("--temp-dir="))
        return Path(f"/proc/{self.nodes[number].pid}/root{own}")


@contextmanager
def started_hosts(
    folder: Path,
    cpus: Sequence[int],
    hosts: Network,
    disk_bytes: Mapping[int, int] | None = None,
    **variables: str,
) -> Iterator[Hosts]:
    """Start a Ray node on each host, with variables of Ray's set; end all of them with the block."""
    head = hosts.address_of(0)
    dashboard = f"http://{head}:{DASHBOARD_PORT}"
    with (
        tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True) as own,
        (folder / "hosts.log").open("w") as log,
    ):
        started = Hosts(
            f"{head}:{GCS_PORT}",
            dashboard,
            cluster_environment(dashboard, **variables),
            [],
            cpus,
            Path(own),
            log,
            {},
            hosts,
            disk_bytes or {},
        )
        try:
            started.start_all(
                f"--port={GCS_PORT}", f"--dashboard-host={head}", f"--dashboard-port={DASHBOARD_PORT}"
            )
            yield started
        finally:
            end(started.nodes)
