"""The address of the endpoint, looked at before Ray is started."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alpagasus_ray.errors import UserError

if TYPE_CHECKING:
    from alpagasus_ray.recipe import ServeSettings

OTHERS_LOOK_S = 0.2
"""Somebody else who looks whether a port is free has it for a moment, too."""
BACKLOG = 2048
"""Connections that wait to be taken."""
ANY_HOST = frozenset({"0.0.0.0", "::", ""})


def check_port_free(host: str, port: int) -> None:
    """Raise UserError when the port cannot be listened on; port 0, any free one, always can.

    It asks for the port and lets it go again: somebody may still take it before the endpoint does.
    """
    if port == 0:
        return
    try:
        try:
            _listen_once(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            time.sleep(OTHERS_LOOK_S)
            _listen_once(host, port)
    except socket.gaierror as error:
        raise UserError(f'"{host}" is no address of this machine: {error.strerror}.') from error
    except PermissionError as error:
        raise UserError(f"Port {port} needs more rights: choose one from 1024 up with --port.") from error
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror}): "
            "choose another port with --port, or 0 for any free one."
        ) from error


def check_invitation(settings: ServeSettings) -> None:
    """Raise UserError where others can reach the endpoint, and it would ask nobody for a key."""
    if settings.api_key_env is not None or settings.open_to_all or is_loopback(settings.host):
        return
    raise UserError(
        f"{settings.host}: others can reach the endpoint there, and it asks nobody for a key: name the "
        "environment variable that holds one (--api-key-env ALPAGASUS_KEY), or leave --host at 127.0.0.1 (or "
        "say --set serve.open_to_all=true)"
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Give the port, or when it is 0 a free one, which no other endpoint of ours takes meanwhile.

    The endpoint listens a minute later, once Ray is up: a second one would find the port free until then.
    Hence a name in Linux's abstract namespace (unix(7)), which goes with its process, however that ends.

    Raises UserError when the port cannot be listened on.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sign:
        while True:
            # Named first and looked at then: two that look at the same time would each see the other's look.
            candidate = port or _listen_once(host, 0)
            try:
                sign.bind(f"\0alpagasus-endpoint-{candidate}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if port:
                    raise UserError(
                        f"{host}:{port} cannot be listened on (another endpoint is starting there): choose "
                        "another port with --port, or 0 for any free one."
                    ) from error
        check_port_free(host, candidate)
        yield candidate


def address_to_ask(host: str) -> str:
    """Return where a client on this machine reaches a server that listens on the host.

    >>> address_to_ask("0.0.0.0"), address_to_ask("10.0.0.5"), address_to_ask("::1")
    ('127.0.0.1', '10.0.0.5', '[::1]')
    """
    if host in ANY_HOST:
        return "[::1]" if host == "::" else "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def address_for_others(host: str) -> str | None:
    """Return where another machine reaches a server that listens on all of this one's addresses.

    None: the host names one address itself, or this machine has no way out.
    """
    if host not in ANY_HOST:
        return None
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    try:
        # For documentation (RFC 5737, RFC 3849). Nothing is sent: the kernel says which way it would go.
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((elsewhere, 9))
            found = str(asked.getsockname()[0])
    except OSError:
        return None
    return f"[{found}]" if ":" in found else found


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens there; raises OSError where that cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: a port whose last connections are still being wound up is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_once(host: str, port: int) -> int:
    """Listen for a moment and return the port that was had."""
    with listening_socket(host, port) as listener:
        return int(listener.getsockname()[1])
