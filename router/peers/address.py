"""Where a worker is reached by its peers: `unix:PATH` on the same machine, `HOST:PORT` on another. Pure."""

from dataclasses import dataclass
from pathlib import PurePath

_UNIX = "unix:"
_MAX_PATH_BYTES = 100
"""The system takes 107 (unix(7)); what lies beside a link's socket has a longer name."""


class AddressError(ValueError):
    """Not an address; the text names it and the rule."""


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket file. Who may enter its directory is a peer."""

    path: PurePath

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A machine and a port; TLS tells who is there."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = Unix | Tcp


def parse_address(text: str) -> Address:
    """Raises AddressError. The host of an IPv6 address stands in brackets."""
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
