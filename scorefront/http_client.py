"""Blocking HTTP client of the command line and of the SDK.

Connections ignore the proxy settings of the environment. Redirects are not followed, because they would carry the token
elsewhere.
"""

import errno
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cluster.local.socket_owner import unix_peer_uid

if TYPE_CHECKING:
    from httpcore import Response

UNIX = "unix:"
"""An URL that begins so goes on with the path of a Unix socket."""
CONNECT_TIMEOUT_S = 5.0


class ServerUnreachable(Exception):
    """No answer, no valid HTTP, or a timeout."""


class UnusableAuthority(Exception):
    """A file of certificates that cannot be used."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ServerTrust:
    """Verification of a server's certificate, and the option that sets it."""

    option: str = "SSL_CERT_FILE"
    ca: Path | None = None
    """PEM file with the authorities; None: those of the system."""

    def context(self) -> ssl.SSLContext:
        """TLS context. Raises UnusableAuthority."""
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
            raise UnusableAuthority(
                f"{self.option}: {self.ca} must be a file with certificates in PEM form: {reason or 'it has none'}"
            ) from error


@contextmanager
def sent(
    base: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    data: bytes | Iterator[bytes] | None,
    timeout_s: float | None,
    trust: ServerTrust,
) -> Iterator["Response"]:
    """A response with its body unread.

    base: URL of the server, or `unix:PATH`. method, path, headers, data: of the request.
    timeout_s: longest silence in seconds; None: unlimited.
    trust: verification of the certificate.
    Raises ServerUnreachable, also in place of the errors of reading the body; UnusableAuthority.
    """
    import httpcore  # late: --help, size and invalid calls need no client

    unix = base.removeprefix(UNIX) if base.startswith(UNIX) else None
    url = "http://localhost" if unix else base
    context = trust.context() if base.startswith("https:") else None
    fields = [("Host", urlsplit(url).netloc), *headers.items()]
    waits = {"connect": CONNECT_TIMEOUT_S, "read": timeout_s, "write": timeout_s}
    extensions = {"timeout": waits, "trace": _check_owner}
    try:
        with (
            httpcore.ConnectionPool(context, uds=unix) as pool,
            pool.stream(method, url + path, headers=fields, content=data, extensions=extensions) as response,
        ):
            yield response
    except httpcore.TimeoutException as error:
        raise ServerUnreachable(f"{base} did not answer in time") from error
    except httpcore.ProtocolError as error:
        hint = "; does it speak HTTPS?" if base.startswith("http://") else ""
        raise ServerUnreachable(f"{base} does not answer in HTTP ({error}){hint}") from error
    except (httpcore.NetworkError, OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise _unreachable(base, error, trust) from error


def _check_owner(event: str, info: Mapping[str, Any]) -> None:
    """Close a Unix socket of another user than this one and root, because the control token would go there."""
    if event != "connection.connect_unix_socket.complete":
        return
    stream = info["return_value"]
    owner = unix_peer_uid(stream.get_extra_info("socket"))
    if owner not in (os.geteuid(), 0) and os.geteuid() != 0:
        stream.close()
        raise PermissionError(errno.EPERM, f"uid {owner} listens there, not you")


def _unreachable(base: str, error: Exception, trust: ServerTrust) -> ServerUnreachable:
    cause: BaseException = error
    while below := cause.__cause__ or cause.__context__:  # down to the error of the socket
        cause = below
    if isinstance(cause, ssl.SSLCertVerificationError):
        hint = f"name its authority's file in {trust.option}"
        return ServerUnreachable(f"the certificate of {base} is not trusted ({cause.verify_message}); {hint}")
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return ServerUnreachable(f"cannot reach {base}: nothing listens there; is `scorefront up` running?")
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return ServerUnreachable(f"cannot reach {base}: {reason}")


def read_whole(response: "Response") -> Reply:
    """The response with its body."""
    body = response.read()
    return Reply(response.status, {name.decode().lower(): value.decode() for name, value in response.headers}, body)


def lines_of(response: "Response") -> Iterator[bytes]:
    """Lines that are not empty."""
    rest = b""
    for piece in response.iter_stream():
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest
