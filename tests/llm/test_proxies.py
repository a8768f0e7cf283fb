"""Proxies of the environment, as curl and its kin read it."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import pytest

from alpagasus_ray.llm.chat import EndpointError
from alpagasus_ray.llm.openai_chat import OpenAIChat
from alpagasus_ray.llm.proxies import Proxy, is_exempt, proxy_of


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_an_address_has_the_proxy_of_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of("https://api.openai.com/v1") is None
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://safe:2")
    monkeypatch.setenv("NO_PROXY", "localhost,.own.example")
    assert proxy_of("https://api.openai.com/v1") == Proxy("http://safe:2")
    assert proxy_of("http://judge.example:8000/v1") == Proxy("http://all:1")
    assert proxy_of("http://localhost:8000/v1") is None
    assert proxy_of("http://gpu.own.example/v1") is None
    assert proxy_of("no address") is None


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("proxy", "http://proxy"),
        ("https://proxy:443/", "https://proxy:443"),
        ("http://[::1]:3128", "http://[::1]:3128"),
    ],
)
def test_a_proxy_is_written_in_several_ways(monkeypatch: pytest.MonkeyPatch, said: str, address: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", said)
    assert proxy_of("http://judge.example/v1") == Proxy(address)


def test_a_password_is_told_to_the_proxy_and_is_in_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:s%40y@proxy:3128")
    proxy = proxy_of("http://judge.example/v1")
    assert proxy is not None
    assert proxy.address == "http://proxy:3128"
    kind, _, said = proxy.headers["Proxy-Authorization"].partition(" ")
    assert (kind, base64.b64decode(said)) == ("Basic", b"me:s@y")
    assert "s@y" not in repr(proxy) and said not in repr(proxy)


@pytest.mark.parametrize(
    "said", ["socks5://me:hidden@proxy:1", "http://me:hidden@[bad", "me:hidden@proxy:99999", "://hidden"]
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", said)
    with pytest.raises(EndpointError, match="ALL_PROXY names no proxy that can be used") as caught:
        proxy_of("http://judge.example/v1")
    assert "hidden" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "judge.example")
    assert proxy_of("http://judge.example/v1") is None
    OpenAIChat("http://judge.example/v1", "key", 1.0)  # needs none, and so does not stumble over it


@pytest.mark.parametrize(
    ("no_proxy", "url", "exempt"),
    [
        ("*", "http://a.example", True),
        ("b.example, *", "http://a.example", True),
        ("a.example", "http://a.example:80/v1", True),
        ("A.Example", "http://a.EXAMPLE", True),
        ("example", "http://a.example", True),
        (".example", "http://a.example", True),
        ("*.example", "http://a.example", True),
        ("ample", "http://a.example", False),
        ("a.example:8000", "http://a.example:8000", True),
        ("a.example:8000", "http://a.example:8001", False),
        ("http://a.example", "http://a.example", True),
        ("10.0.0.0/8", "http://10.1.2.3:8000", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("127.0.0.1", "http://127.0.0.1:1", True),
        ("::1", "http://[::1]:8000", True),
        ("[::1]", "http://[::1]", True),
        ("fd00::/8", "http://[fd00::2]", True),
        ("10.0.0.0/8", "http://ten.example", False),
        ("", "http://a.example", False),
        (" , ,.", "http://a.example", False),
    ],
)
def test_hosts_are_exempt_by_name_domain_address_and_network(no_proxy: str, url: str, exempt: bool) -> None:
    assert is_exempt(urlsplit(url), no_proxy) is exempt
