"""Which proxy stands between here and an endpoint: what the environment says. Pure but for reading it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies

import aiohttp

from alpagasus_ray.llm.chat import EndpointError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, without the user and password that its address may hold."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it is told, and the endpoint is not: who asks."""


def proxy_of(url: str) -> Proxy | None:
    """Return the proxy for an address: HTTPS_PROXY or HTTP_PROXY by its scheme, ALL_PROXY, not for NO_PROXY.

    Raises EndpointError for one that cannot be used, without what its address holds.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None  # no address: whoever asks there is told
    proxies = getproxies()
    names = [name for name in (parts.scheme, "all") if proxies.get(name)]
    if not names or not parts.hostname or is_exempt(parts, proxies.get("no", "")):
        return None
    said = proxies[names[0]]
    unusable = EndpointError(
        f"{names[0].upper()}_PROXY names no proxy that can be used: it is written http://HOST:PORT "
        "(SOCKS is not spoken)"
    )
    try:
        proxy = urlsplit(said if "://" in said else f"http://{said}")
        host, port = proxy.hostname, proxy.port
    except ValueError:
        raise unusable from None
    if proxy.scheme not in ("http", "https") or not host:
        raise unusable
    address = f"{proxy.scheme}://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port else "")
    if proxy.username is None:
        return Proxy(address)
    said_who = aiohttp.encode_basic_auth(unquote(proxy.username), unquote(proxy.password or ""))
    return Proxy(address, {"Proxy-Authorization": said_who})


def is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    """Return whether NO_PROXY names the host: by name, domain, address, network or `*`.

    >>> is_exempt(urlsplit("http://10.1.2.3:8000/v1"), "localhost,10.0.0.0/8")
    True
    """
    host = (parts.hostname or "").rstrip(".")
    return any(
        _names(entry.strip().lower(), host, parts.port) for entry in no_proxy.split(",") if entry.strip()
    )


def _names(entry: str, host: str, port: int | None) -> bool:
    entry = entry.rpartition("://")[2]
    if entry == "*":
        return True
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, _, said_port = entry.partition(":")
        domain = name.removeprefix("*").strip(".")
        is_host = host == domain or host.endswith(f".{domain}")
        return bool(domain) and is_host and said_port in ("", str(port))
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
