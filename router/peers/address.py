"""Addresses of workers for their peers: `unix:PATH` on the same machine, `HOST:PORT` on another. Pure."""

from dataclasses import dataclass
from pathlib import PurePath

from serving.authority import authority

_UNIX = "unix:"
_MAX_PATH_BYTES = 100
"""The system limit is 107 (unix(7)); the hand-off socket beside has a longer name."""


class AddressError(ValueError):
    """An invalid address; the text has the address and the rule."""


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket file. Every process with access to its directory is a peer."""

    path: PurePath

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A host and a port; TLS authenticates the peer."""

    host: str
    port: int

    def __str__(self) -> str:
        return authority(self.host, self.port)


Address = Unix | Tcp


def parse_address(text: str) -> Address:
    """Parse an address; an IPv6 host is in brackets. Raises AddressError."""
    if text.startswith(_UNIX):
        path = PurePath(text.removeprefix(_UNIX))
        if not path.is_absolute() or len(str(path).encode()) > _MAX_PATH_BYTES or "\0" in text:
            raise AddressError(f"{text!r}: the path must be absolute, of at most {_MAX_PATH_BYTES} bytes")
        return Unix(path)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    right = colon and host and bracketed == (":" in host) and port.isascii() and port.isdigit()
    if not right or int(port[:6]) > 65535:
        raise AddressError(f"{text!r}: must be unix:PATH or HOST:PORT")
    return Tcp(host, int(port))
