"""A network namespace for each group, one for replicas and clients between them, and links that can be cut. Needs
root.

Every group has two cables to the one in the middle: one for clients and replicas (10.77.1.N), one for links between
workers (10.77.2.N), the one to be cut. Nothing here reaches, or can be reached from, any other network.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

FRONT, PEERS = "10.77.1", "10.77.2"
MIDDLE = 254
_CLONE_NEWNET = 0x4000_0000
_FOLDER = Path("/run/netns")


class NoNetwork(Exception):
    """Namespaces cannot be made here; the text says why."""


def refusal() -> str:
    """Reason why namespaces are unavailable; "" if available."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need ip (Debian: apt-get install iproute2)"
    return ""


class Network:
    """From its making to `close`; `count` groups, numbered from 1."""

    def __init__(self, count: int) -> None:
        """Raises NoNetwork."""
        why = refusal()
        if why:
            raise NoNetwork(why)
        self._prefix = f"loadtest{os.getpid()}"
        self._made: list[str] = []
        self.middle = self.name(0)
        try:
            self._make(count)
        except BaseException:
            self.close()
            raise

    def name(self, number: int) -> str:
        """Of a group's namespace; 0: the one in the middle."""
        return f"{self._prefix}-{number}"

    def _make(self, count: int) -> None:
        for number in range(count + 1):
            _ip("netns", "add", self.name(number))
            self._made.append(self.name(number))
            _ip("-n", self.name(number), "link", "set", "lo", "up")
        for bridge, net in (("front", FRONT), ("peers", PEERS)):
            _ip("-n", self.middle, "link", "add", bridge, "type", "bridge")
            _ip("-n", self.middle, "addr", "add", f"{net}.{MIDDLE}/24", "dev", bridge)
            _ip("-n", self.middle, "link", "set", bridge, "up")
            for number in range(1, count + 1):
                self._plug(number, bridge, net)

    def _plug(self, number: int, bridge: str, net: str) -> None:
        end, name = f"{bridge}{number}", self.name(number)
        cable = ("link", "add", end, "type", "veth", "peer", "name", bridge, "netns", name)
        _ip("-n", self.middle, *cable)
        _ip("-n", self.middle, "link", "set", end, "master", bridge, "up")
        _ip("-n", name, "addr", "add", f"{net}.{number}/24", "dev", bridge)
        _ip("-n", name, "link", "set", bridge, "up")

    def cut(self, number: int) -> None:
        """No worker of this group hears another group any more; clients and replicas do."""
        _ip("-n", self.middle, "link", "set", f"peers{number}", "down")

    def heal(self, number: int) -> None:
        """As before."""
        _ip("-n", self.middle, "link", "set", f"peers{number}", "up")

    def command(self, number: int, command: Sequence[str]) -> list[str]:
        """To run a program in a group's namespace, as the very process that is started."""
        return ["ip", "netns", "exec", self.name(number), *command]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Put this thread and its children in the middle namespace. Raises NoNetwork."""
        with open("/proc/thread-self/ns/net", "rb") as home, (_FOLDER / self.middle).open("rb") as middle:
            _set_namespace(middle.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def close(self) -> None:
        """A namespace remains until the end of its last process."""
        for name in self._made:
            with contextlib.suppress(NoNetwork):
                _ip("netns", "del", name)
        self._made.clear()


def _set_namespace(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        raise NoNetwork(f"setns: {os.strerror(ctypes.get_errno())}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise NoNetwork(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
