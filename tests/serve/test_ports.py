from __future__ import annotations

import socket
import subprocess
import sys
import textwrap

import pytest

from alpagasus_ray.errors import UserError
from alpagasus_ray.recipe import ServeSettings
from alpagasus_ray.serve.ports import (
    address_for_others,
    address_to_ask,
    check_invitation,
    check_port_free,
    reserved_port,
)


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
    with reserved_port("127.0.0.1", 0) as port, reserved_port("127.0.0.1", 0) as another:
        assert port > 0 and another > 0 and port != another
        check_port_free("127.0.0.1", port)


def test_two_starts_at_once_do_not_share_a_port() -> None:
    """Two processes find the port free before either listens, as Ray does: each would, without a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    program = textwrap.dedent(
        f"""
        import socket, sys
        from alpagasus_ray.errors import UserError
        from alpagasus_ray.serve.ports import check_port_free, reserved_port
        check_port_free("127.0.0.1", {port})
        print("free", flush=True)
        sys.stdin.readline()
        try:
            with reserved_port("127.0.0.1", {port}), socket.socket() as listener:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    listener.setsockopt(socket.SOL_SOCKET, option, 1)
                listener.bind(("127.0.0.1", {port}))
                listener.listen()
                print("listens", flush=True)
                sys.stdin.readline()
        except UserError as error:
            print(error, flush=True)
        """
    )

    def started() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)

    with started() as first, started() as second:
        both = (first, second)
        assert [one.stdout.readline() for one in both if one.stdout] == ["free\n"] * 2
        for one in both:
            assert one.stdin
            one.stdin.write("go\n")
            one.stdin.flush()
        said = sorted(one.stdout.readline() for one in both if one.stdout)
        assert said[1] == "listens\n" and f"127.0.0.1:{port} cannot be listened on" in said[0]
        for one in both:
            one.kill()
    with reserved_port("127.0.0.1", port) as again:
        assert again == port, "whoever had it has gone, however that ended"


def test_a_server_on_all_addresses_is_asked_on_loopback() -> None:
    assert [address_to_ask(host) for host in ("0.0.0.0", "::", "127.0.0.1", "fe80::1")] == [
        "127.0.0.1",
        "[::1]",
        "127.0.0.1",
        "[fe80::1]",
    ]


def test_others_are_told_an_address_of_this_machine() -> None:
    assert address_for_others("127.0.0.1") is None and address_for_others("an.example.org") is None
    if (address := address_for_others("0.0.0.0")) is not None:
        with socket.socket() as listener:
            listener.bind((address, 0))  # raises where it is another machine's


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "", "an.example.org"])
def test_where_others_can_reach_it_a_key_is_wanted_or_an_explicit_word(host: str) -> None:
    with pytest.raises(UserError, match=r"asks nobody for a key.*--api-key-env.*open_to_all=true"):
        check_invitation(ServeSettings(host=host))
    check_invitation(ServeSettings(host=host, api_key_env="ALPAGASUS_KEY"))
    check_invitation(ServeSettings(host=host, open_to_all=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_none_is(host: str) -> None:
    check_invitation(ServeSettings(host=host))
