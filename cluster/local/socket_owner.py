"""The user of a socket of this machine according to the kernel. TCP: sock_diag(7), else the tables of proc_net_tcp(5).

Both report the uid of the process that made the socket. The query of sock_diag is exact and takes some 20 µs for any
number of connections; a table is read completely.

A socket without a process (closed, or in TIME_WAIT) is reported with uid 0: such an answer counts as unknown. A socket
made by one process and used by another, e.g. inherited across setuid(2), belongs to the user who made it.

Only the standard library, no first-party import: the process of a replica loads this file by its path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple, Tuple  # noqa: UP035 - replicas may have an older Python than scorefront

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
ANSWER_BYTES = 8192
ANSWER_TIMEOUT_S = 1

ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LISTEN = 1, 4, 5, 8, 10
CONNECTED = frozenset({ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT})
"""States in which a process may hold one end of a connection; the inode says if one does."""
LISTENING = frozenset({LISTEN})

_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_ANSWER = struct.Struct("=BBBB2s2s16s16sIQIIIII")
_NO_COOKIE = b"\xff" * 8
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""

Address = Tuple[str, int]  # noqa: UP006


class Unanswerable(Exception):
    """Neither sock_diag(7) nor proc_net_tcp(5) is available to this process."""


class SocketRecord(NamedTuple):
    """One socket as reported by the kernel; IPv4-mapped addresses as IPv4."""

    state: int
    local: Address
    remote: Address
    uid: int
    inode: int
    """0: no process holds it."""


def connection_uid(local: Address, remote: Address) -> int | None:
    """The user of the socket connected from `local` to `remote`; None: no process of this machine holds it.

    Raises Unanswerable.
    """
    found = _ask(local, remote)
    if found is None or found.state not in CONNECTED or not found.inode:
        return None
    return found.uid if (found.local, found.remote) == (_plain(local), _plain(remote)) else None


def listener_uid(local: Address) -> int | None:
    """The user of the socket that a connection to `local` would reach; None: no listener. Raises Unanswerable."""
    found = _ask(local, ("::" if ":" in local[0] else "0.0.0.0", 0))
    return found.uid if found is not None and found.state in LISTENING and found.inode else None


def unix_peer_uid(sock: socket.socket) -> int | None:
    """The user of connect(2), or listen(2), at the other end of a Unix connection; None: there is none."""
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    return int(_CREDENTIALS.unpack(data)[1])


def own_uids(uid: int, uid_map: str, overflow_uid: int) -> frozenset[int]:
    """Uids of this user: `uid` and root, less the uid that represents all users without a mapping.

    `uid_map`, `overflow_uid`: /proc/self/uid_map and /proc/sys/kernel/overflowuid. In a user namespace with a mapping
    for few users, `overflow_uid` is reported for all others.
    """
    whole = uid_map.split()[:3] in ([], ["0", "0", "4294967295"])
    return frozenset({uid, 0}) if whole else frozenset({uid, 0}) - {overflow_uid}


def trusted_uids() -> frozenset[int]:
    """Uids of this process and of root, as the kernel reports them here."""
    overflow = _text("/proc/sys/kernel/overflowuid").strip()
    return own_uids(os.geteuid(), _text("/proc/self/uid_map"), int(overflow) if overflow.isdigit() else 65534)


def check() -> None:
    """Raises Unanswerable unless the kernel names this process as the owner of a connection of its own."""
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client.connect(server.getsockname())
        with server.accept()[0]:
            if connection_uid(client.getsockname(), client.getpeername()) != os.geteuid():
                raise Unanswerable("the kernel does not name the owner of a loopback connection")


def _ask(local: Address, remote: Address) -> SocketRecord | None:
    answered = False
    for query in (ask_sock_diag, ask_tables):
        with contextlib.suppress(OSError, struct.error):
            if (found := query(_plain(local), _plain(remote))) is not None:
                return found
            # sock_diag answers "no such socket" also if its module is missing, so the tables decide.
            answered = True
    if answered:
        return None
    raise Unanswerable("neither sock_diag(7) nor /proc/net/tcp can be used by this process")


def ask_sock_diag(local: Address, remote: Address) -> SocketRecord | None:
    """One exact query; falls back to a listening socket on `local`. Raises OSError if sock_diag is not available."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    query = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    query += struct.pack("!HH", local[1], remote[1]) + _packed(family, local) + _packed(family, remote)
    query += struct.pack("=I", 0) + _NO_COOKIE
    head = _HEADER.pack(_HEADER.size + len(query), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_TIMEOUT_S)
        kernel.send(head + query)
        answer = kernel.recv(ANSWER_BYTES)
    kind = _HEADER.unpack_from(answer)[1]
    if kind != SOCK_DIAG_BY_FAMILY:
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, os.strerror(number))
    family, state, _, _, port, peer_port, source, target, *_, uid, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    return SocketRecord(
        state,
        (_unpacked(family, source), int.from_bytes(port, "big")),
        (_unpacked(family, target), int.from_bytes(peer_port, "big")),
        uid,
        inode,
    )


def ask_tables(local: Address, remote: Address) -> SocketRecord | None:
    """The same from /proc/net. Raises OSError if it cannot be read."""
    tables = [record for path in TABLES if os.path.exists(path) for record in read_table(path)]
    if not tables:
        raise OSError("no table of TCP sockets")
    connected = [one for one in tables if (one.local, one.remote) == (local, remote)]
    anywhere = {local, ("0.0.0.0", local[1]), ("::", local[1])}
    listening = [one for one in tables if one.state == LISTEN and one.local in anywhere]
    # A connection reaches the most specific listener.
    return next(iter(connected + sorted(listening, key=lambda one: one.local != local)), None)


def read_table(path: str) -> Iterator[SocketRecord]:
    """Every socket of a table of proc_net_tcp(5). Raises OSError."""
    with open(path) as table:
        next(table, None)
        for line in table:
            fields = line.split()
            local, remote = (_from_hex(text) for text in fields[1:3])
            yield SocketRecord(int(fields[3], 16), local, remote, int(fields[7]), int(fields[9]))


def _packed(family: int, address: Address) -> bytes:
    return socket.inet_pton(family, address[0]).ljust(16, b"\0")


def _unpacked(family: int, data: bytes) -> str:
    text = socket.inet_ntop(family, data[: 16 if family == socket.AF_INET6 else 4])
    return _plain((text, 0))[0]


def _plain(address: Address) -> Address:
    """Host and port alone; an IPv4-mapped IPv6 address as IPv4."""
    host = address[0].partition("%")[0]
    lower = host.lower()
    return (host[7:] if lower.startswith("::ffff:") and "." in lower else host), address[1]


def _from_hex(text: str) -> Address:
    """`0100007F:1F90`: words of 32 bits in the byte order of the machine."""
    host, _, port = text.partition(":")
    words = struct.unpack(f"!{len(host) // 8}I", bytes.fromhex(host))
    data = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET6 if len(words) == 4 else socket.AF_INET
    return _unpacked(family, data), int(port, 16)


def _text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
