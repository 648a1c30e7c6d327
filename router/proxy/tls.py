"""TLS certificates for clients: loaded from files, selected by server name (SNI), reloaded when files change.

An invalid change (expired, key mismatch, unreadable) is rejected with the reason; the previous certificate stays.
"""

import datetime
import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_log = logging.getLogger("scorefront.router")

# Forward secrecy and AEAD only (Mozilla's "intermediate" profile for TLS 1.2); TLS 1.3 has no others.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""Identity of a file's content: changes when it is written, renamed or relinked; None for a missing file."""


class TlsError(Exception):
    """Unusable certificate or key; the text names the file and the reason."""

    def __init__(self, file: Path, reason: str, good_from: datetime.datetime | None = None) -> None:
        """`file`: the certificate or key. `reason`: for the operator. `good_from`: begin of validity of a certificate
        that is not valid yet; None for other faults.
        """
        super().__init__(f"{file}: {reason}")
        self.good_from = good_from


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """Paths of a certificate chain and its key, both PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """A loaded certificate: its DNS names, its expiry and its TLS context."""

    names: frozenset[str]
    expires_at: datetime.datetime
    context: ssl.SSLContext


class Certificates:
    """The certificates of one listener. The server is started with `context`; it never changes."""

    def __init__(self, pairs: Sequence[CertificatePair], now: datetime.datetime, even_expired: bool = False) -> None:
        """Raises TlsError for the first unusable pair.

        `pairs`: at least one. `now`: timezone-aware. `even_expired`: accept expired certificates, as at the restart of
        a worker that had them in use.
        """
        self._sources = [_Source(pair, now, even_expired) for pair in pairs]
        self._served = [source.served for source in self._sources]
        self.context = _context(pairs[0])
        # OpenSSL calls this for every connection, even without a server name: a new certificate applies to new
        # connections only.
        self.context.sni_callback = self._select

    @property
    def expires_at(self) -> datetime.datetime:
        """Earliest expiry of the certificates in use."""
        return min(served.expires_at for served in self._served)

    def reload(self, now: datetime.datetime) -> bool:
        """Load changed files; True if any certificate was replaced. Two `stat` per unchanged pair."""
        changed = [source.reload(now) for source in self._sources]
        self._served = [source.served for source in self._sources]
        return any(changed)

    def _select(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = choose(self._served, name).context


def choose(served: Sequence[ServedCertificate], name: str | None) -> ServedCertificate:
    """The certificate for a server name: exact match, wildcard, else the first one (also without a name)."""
    wanted = (name or "").lower().rstrip(".")
    for candidate in (wanted, "*." + wanted.partition(".")[2]):
        for each in served:
            if candidate in each.names:
                return each
    return served[0]


class _Source:
    """One pair of files and the last valid certificate loaded from them."""

    def __init__(self, pair: CertificatePair, now: datetime.datetime, even_expired: bool) -> None:
        self._pair = pair
        self._stamp = _stamp(pair)
        self._good_from: datetime.datetime | None = None
        self.served = _load(pair, now, even_expired)

    def reload(self, now: datetime.datetime) -> bool:
        """Load the files if they have changed or if their validity has begun."""
        stamp = _stamp(self._pair)
        if stamp == self._stamp and (self._good_from is None or now < self._good_from):
            return False
        served = refusal = None
        try:
            served = _load(self._pair, now)
        except TlsError as error:
            refusal = error
        if _stamp(self._pair) != stamp:
            return False  # being written: try again at the next call
        self._stamp = stamp
        self._good_from = refusal.good_from if refusal else None
        if served is None:
            _log.error("certificate reload: rejected, previous certificate stays in use: %s", refusal)
            return False
        self.served = served
        _log.info("certificate reload: %s: in use, expires %s", self._pair.cert, _shown(served.expires_at))
        return True


def _load(pair: CertificatePair, now: datetime.datetime, even_expired: bool = False) -> ServedCertificate:
    certificate, key = _read_certificate(pair.cert), _read_key(pair.key)
    begins_at, expires_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= expires_at and not even_expired:
        raise TlsError(pair.cert, f"expired on {_shown(expires_at)}")
    if key.public_key() != certificate.public_key():
        raise TlsError(pair.key, f"is not the key of {pair.cert}")
    if now < begins_at:
        raise TlsError(pair.cert, f"is not valid before {_shown(begins_at)}", begins_at)
    return ServedCertificate(_names(certificate), expires_at, _context(pair))


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read(path))[0]
    except ValueError as error:
        raise TlsError(path, "is not a certificate chain in PEM form") from error


def _read_key(path: Path) -> PrivateKeyTypes:
    try:
        # Validation of an RSA key blocks the loop for 50 to 350 ms; the match with the certificate is checked anyway.
        return load_pem_private_key(_read(path), password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise TlsError(path, "is encrypted; a key without a pass phrase is needed") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TlsError(path, "is not a private key in PEM form") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TlsError(path, "there is no such file") from error
    except OSError as error:
        raise TlsError(path, f"cannot be read: {error.strerror}") from error


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in alternative.get_values_for_type(x509.DNSName))


def _context(pair: CertificatePair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty pass phrase: an encrypted key must fail, not prompt on the terminal.
        context.load_cert_chain(pair.cert, pair.key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise TlsError(pair.cert, f"cannot be served with {pair.key}: {reason}") from error
    except OSError as error:
        raise TlsError(pair.cert, f"cannot be read: {error.strerror}") from error
    return context


def _stamp(pair: CertificatePair) -> Stamp:
    return tuple(_file_stamp(path) for path in (pair.cert, pair.key))


def _file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # ctime too: a copy that preserves mtime may reuse the inode of the file that it replaces.
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _shown(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
