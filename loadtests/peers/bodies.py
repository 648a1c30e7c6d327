"""A backend for large bodies, a thread for each connection: `python -m loadtests.peers.bodies PORT`.

POST /sink takes a body, GET /source sends SIZE bytes, POST /echo sends back what it was sent, once it has it all.
"""

import re
import socket
import sys
import threading

from loadtests.peers.rig import Rig

SIZE = 10_000_000
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)


def start(rig: Rig) -> int:
    """Start it; its port."""
    (port,) = rig.free_ports()
    rig.start_module("bodies", "loadtests.peers.bodies", port, str(port))
    return port


def serve(sock: socket.socket, source: bytes) -> None:
    """One connection: requests with a length, one after the other."""
    buffer = memoryview(bytearray(SIZE + 65_536))
    with sock:
        while True:
            have, end = 0, -1
            while end < 0:
                read = sock.recv_into(buffer[have:65_536])
                if not read:
                    return
                have += read
                end = bytes(buffer[:have]).find(b"\r\n\r\n")
            head = bytes(buffer[: end + 4])
            found = _length.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            while have < whole:
                read = sock.recv_into(buffer[have:whole])
                if not read:
                    return
                have += read
            answer = _answer(head.split(b" ", 2)[1], buffer[end + 4 : whole], source)
            sock.sendall(_HEAD % len(answer))
            sock.sendall(answer)


def _answer(path: bytes, body: memoryview, source: bytes) -> bytes | memoryview:
    answers: dict[bytes, bytes | memoryview] = {b"/source": source, b"/echo": body}
    return answers.get(path, b"{}")


def _quietly(sock: socket.socket, source: bytes) -> None:
    try:
        serve(sock, source)
    except ConnectionError:
        return  # the proxy or the load has gone


def main() -> None:
    """Serve until killed."""
    source = bytes(SIZE)
    with socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512) as listen:
        while True:
            sock, _ = listen.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_quietly, args=(sock, source), daemon=True).start()


if __name__ == "__main__":
    main()
