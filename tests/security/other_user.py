"""Acts as another user of this machine: a forked child with another uid and plain sockets."""

import os
import socket
import sys
from collections.abc import Callable

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as another user needs root")


def as_user(uid: int, act: Callable[[], bytes]) -> bytes:
    """Result of `act` in a child process of that user; its exception as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            said = act()
        except BaseException as error:
            said = repr(error).encode()
        while said:
            said = said[os.write(writing, said) :]
        sys.stdout = sys.stderr = None
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def exchange(address: tuple[str, int] | str, request: bytes) -> bytes:
    """Send bytes to a TCP address or the path of a Unix socket, and read until the end."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(address)
        sock.sendall(request)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer


def request(method: str, path: str, body: bytes = b"", **fields: str) -> bytes:
    """A request that asks for the end of its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """The status of an answer; 0 if there is none."""
    line = answer.partition(b"\r\n")[0].split()
    return int(line[1]) if len(line) > 1 and line[0].startswith(b"HTTP/") else 0
