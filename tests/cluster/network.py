"""Hosts on this machine: network namespaces with an address each, at one bridge. For root."""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

NAME = re.compile(r"ag([0-9]+)x[0-9]+")
"""Of a network: the process that made it, and its number there. Interfaces have 15 letters at most."""
SUBNETS = "198.18"
"""Set apart for tests of networks (RFC 2544): nobody's own."""
HOSTS_FILES = Path("/etc/netns")
GONE_WITHIN_S = 10.0
_numbers = itertools.count()


@dataclass(frozen=True)
class Network:
    """A bridge, whose address is this machine's, and so many hosts at it."""

    name: str
    subnet: str
    count: int

    @property
    def address(self) -> str:
        """Where the hosts find what listens outside of them."""
        return f"{self.subnet}.254"

    def address_of(self, number: int) -> str:
        """Return a host's own address."""
        return f"{self.subnet}.{number + 1}"

    def host(self, number: int) -> str:
        """Return a host's name: its namespace's and its link's."""
        return f"{self.name}-{number}"

    def inside(self, number: int) -> list[str]:
        """Return what a command begins with that is to run on a host."""
        named = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'
        return [
            "ip",
            "netns",
            "exec",
            self.host(number),
            "unshare",
            "--uts",
            "sh",
            "-c",
            named,
            self.host(number),
        ]

    def cut(self, number: int) -> None:
        """Cut a host's link: nothing comes through, and nobody is told."""
        _ip("link", "set", self.host(number), "down")

    def restore(self, number: int) -> None:
        """Put a link back that was cut."""
        _ip("link", "set", self.host(number), "up")

    def processes(self, number: int) -> list[psutil.Process]:
        """Return all that runs on a host."""
        return _processes_in(self.host(number))

    def kill(self, number: int) -> None:
        """Kill all that runs on a host."""
        _kill_all_in(self.host(number))

    def add_all(self) -> None:
        """Make the bridge and the hosts."""
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self.name)
        _ip("link", "set", self.name, "up")
        names = [f"{self.address_of(number)} {self.host(number)}" for number in range(self.count)]
        for number in range(self.count):
            host = self.host(number)
            (HOSTS_FILES / host).mkdir(parents=True)
            (HOSTS_FILES / host / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
            _ip("netns", "add", host)
            _ip("link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("link", "set", host, "master", self.name, "up")
            _ip("-n", host, "addr", "add", f"{self.address_of(number)}/24", "dev", "eth0")
            for interface in ("lo", "eth0"):
                _ip("-n", host, "link", "set", interface, "up")
            # Ray asks the routes which address is its host's own.
            _ip("-n", host, "route", "add", "default", "via", self.address)


@contextmanager
def network(count: int) -> Iterator[Network]:
    """Make so many hosts; whatever happens, nothing is left of them, nor of what ran on them."""
    _remove_leftovers()
    made = Network(f"ag{os.getpid()}x{next(_numbers)}", _free_subnet(), count)
    with _interrupted_by_sigterm():
        try:
            made.add_all()
            yield made
        finally:
            _remove(made.name)


@functools.cache
def why_no_hosts() -> str | None:
    """Return why there can be no hosts on this machine; None where there can. Installs iproute2 for root."""
    if os.geteuid() != 0:
        return "network namespaces are for root"
    if shutil.which("ip") is None and shutil.which("apt-get") is not None:
        quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "iproute2"]):
            subprocess.run(["apt-get", "-qq", *words], env=quietly, capture_output=True, check=False)
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "ip (iproute2) or unshare (util-linux) is missing"
    try:
        with network(1) as tried:
            subprocess.run([*tried.inside(0), "true"], check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        return f"no network namespaces here: {getattr(error, 'stderr', None) or error}"
    return None


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _processes_in(host: str) -> list[psutil.Process]:
    found = []
    for pid in _ip("netns", "pids", host).split():
        try:
            found.append(psutil.Process(int(pid)))
        except psutil.NoSuchProcess:
            continue
    return found


def _kill_all_in(host: str) -> None:
    until_s = time.monotonic() + GONE_WITHIN_S
    while alive := [one for one in _processes_in(host) if one.is_running()]:
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(alive, timeout=1)
        if time.monotonic() > until_s:
            raise RuntimeError(f"{host}: {alive} do not end")


def _remove(name: str) -> None:
    for host in [line.split()[0] for line in _ip("netns", "list").splitlines()]:
        if host.startswith(f"{name}-"):
            _kill_all_in(host)
            _ip("netns", "del", host)
    for folder in HOSTS_FILES.glob(f"{name}-*"):
        shutil.rmtree(folder)
    for link in _links("veth") | _links("bridge"):
        if link == name or link.startswith(f"{name}-"):
            # A namespace takes its links along, some time later: then this one is gone, or will be.
            subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)


def _remove_leftovers() -> None:
    """Remove networks of processes that were killed before they could."""
    folders = {path.name for path in HOSTS_FILES.glob("ag*")}
    namespaces = {line.split()[0] for line in _ip("netns", "list").splitlines()}
    for name in {one.partition("-")[0] for one in folders | namespaces | _links("bridge")}:
        if (made := NAME.fullmatch(name)) and not psutil.pid_exists(int(made[1])):
            _remove(name)


def _links(kind: str) -> set[str]:
    lines = _ip("-o", "link", "show", "type", kind).splitlines()
    return {line.split(": ")[1].partition("@")[0] for line in lines}


def _free_subnet() -> str:
    taken = _ip("-4", "-o", "addr")
    first = os.getpid() % 256
    subnets = (f"{SUBNETS}.{(first + number) % 256}" for number in range(256))
    return next(subnet for subnet in subnets if f" {subnet}." not in taken)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, which cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
