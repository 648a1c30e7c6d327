"""TLS for clients: certificates from files, chosen by server name, exchanged without a restart when files change.

A change that is not good (expired, key and certificate that do not belong together, unreadable) is refused with the
reason, and what was served before goes on being served.
"""

import datetime
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_log = logging.getLogger("scorefront.router")

# Forward secrecy and AEAD only (Mozilla's "intermediate" profile for TLS 1.2); TLS 1.3 has no others.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsError(Exception):
    """Certificate material that cannot be served; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, both PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Loaded:
    names: tuple[str, ...]
    context: ssl.SSLContext


class Certificates:
    """The certificates of one listener. `context` is what the server is started with; it never changes."""

    def __init__(self, pairs: Sequence[Pair], now: datetime.datetime) -> None:
        """`now` is aware. Raises TlsError for the first pair that is not good."""
        self._pairs = tuple(pairs)
        self._stamp = self._read_stamp()
        self._loaded = [_load(pair, now) for pair in self._pairs]
        self.context = _context(self._pairs[0])
        # The handshake asks for every connection: so a new certificate serves new connections, old ones go on.
        self.context.sni_callback = self._choose

    def reload(self, now: datetime.datetime) -> bool:
        """Take over changed files; returns whether anything was. Reads file times only, where nothing has changed."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._loaded = [_load(pair, now) for pair in self._pairs]
        except TlsError as error:
            _log.error("changed certificates are not taken over: %s", error)
            return False
        _log.info("changed certificates are taken over")
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = choose(self._loaded, name).context

    def _read_stamp(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stat(path) for pair in self._pairs for path in (pair.cert, pair.key))


def choose(loaded: Sequence[_Loaded], name: str | None) -> _Loaded:
    """The first certificate that covers the server name; the first of all where none does, or no name was sent."""
    wanted = (name or "").lower().rstrip(".")
    parent = "*." + wanted.partition(".")[2]
    for candidate in loaded:
        if wanted in candidate.names or parent in candidate.names:
            return candidate
    return loaded[0]


def _load(pair: Pair, now: datetime.datetime) -> _Loaded:
    try:
        certificate = x509.load_pem_x509_certificates(pair.cert.read_bytes())[0]
        key = load_pem_private_key(pair.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise TlsError(f"{pair.cert}, {pair.key}: {error}") from error
    if now >= certificate.not_valid_after_utc:
        raise TlsError(f"{pair.cert}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise TlsError(f"{pair.cert}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise TlsError(f"{pair.key}: is not the key of {pair.cert}")
    return _Loaded(_names(certificate), _context(pair))


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in alternative.get_values_for_type(x509.DNSName))


def _context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pair.cert, pair.key)
    except (ssl.SSLError, OSError) as error:
        raise TlsError(f"{pair.cert}, {pair.key}: {error}") from error
    return context


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
