"""Listening sockets of both address families."""

import errno
import socket
from contextlib import closing

import pytest

from router.supervisor.listening import bound_socket, listening_socket


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
def test_the_unspecified_address_of_ipv6_takes_connections_of_both_families() -> None:
    with closing(listening_socket("::", 0)) as sock:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, sock.getsockname()[1]), timeout=5):
                pass


@needs_ipv6
def test_another_address_of_ipv6_takes_those_of_its_own_family_only() -> None:
    with closing(listening_socket("::1", 0)) as sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=5)


@pytest.mark.parametrize("make", [listening_socket, bound_socket])
def test_without_ipv6_in_the_kernel_the_port_takes_connections_of_ipv4(
    make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    def of_a_kernel_without_ipv6(family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr("router.supervisor.listening.socket.socket", of_a_kernel_without_ipv6)
    assert callable(make)
    with closing(make("::", 0)) as sock:
        assert sock.family == socket.AF_INET and sock.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="not supported"):
        make("::1", 0)
