from __future__ import annotations

import socket

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.ports import address_to_ask, check_invitation, check_port_free, free_port


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be listened on.*--port") as caught:
            check_port_free("127.0.0.1", port)
    assert "\n" not in str(caught.value)
    check_port_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match=r"192\.0\.2\.254:8000 cannot be listened on"):
        check_port_free("192.0.2.254", 8000)


def test_port_zero_is_any_free_one() -> None:
    check_port_free("127.0.0.1", 0)
    port = free_port("127.0.0.1", 0)
    assert port > 0
    check_port_free("127.0.0.1", port)


def test_a_given_port_is_kept() -> None:
    assert free_port("127.0.0.1", 8123) == 8123


def test_a_server_on_all_addresses_is_asked_on_loopback() -> None:
    assert [address_to_ask(host) for host in ("0.0.0.0", "::", "127.0.0.1", "fe80::1")] == [
        "127.0.0.1",
        "[::1]",
        "127.0.0.1",
        "[fe80::1]",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "", "an.example.org"])
def test_where_others_can_reach_it_a_key_is_wanted_or_an_explicit_word(host: str) -> None:
    with pytest.raises(UserError, match=r"asks nobody for a key.*--api-key-env.*open_to_all=true"):
        check_invitation(ServeSettings(host=host))
    check_invitation(ServeSettings(host=host, api_key_env="ALPAGASUS_KEY"))
    check_invitation(ServeSettings(host=host, open_to_all=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_none_is(host: str) -> None:
    check_invitation(ServeSettings(host=host))
