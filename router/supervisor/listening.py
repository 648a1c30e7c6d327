"""Sockets of the processes' ports. The address `::` stands for every address of both families."""

import errno
import os
import socket

_ANY = {"::": "0.0.0.0"}
"""Host for both families -> the host of IPv4, for kernels without IPv6."""


def bound_socket(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: connections are refused at once. Raises OSError."""
    try:
        return _bound(host, port)
    except OSError as error:
        if host not in _ANY or error.errno != errno.EAFNOSUPPORT:
            raise
        return _bound(_ANY[host], port)


def listening_socket(host: str, port: int) -> socket.socket:
    """A listening socket for workers to share. Raises OSError."""
    sock = bound_socket(host, port)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by its connections
        # Before the first worker is ready: its clients wait in the backlog instead of being refused.
        sock.listen(4096)
    except OSError:
        sock.close()
        raise
    os.set_inheritable(sock.fileno(), True)
    return sock


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host in _ANY:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever net.ipv6.bindv6only says
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
