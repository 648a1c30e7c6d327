"""The certificate authority of an installation, and the certificates it signs for routers and control processes.

Times are arguments. An authority outlives many identities. A change of authority has three steps, each `SPREAD` after
the one before: the new authority is trusted beside the old one; identities are signed by it; the old one is removed.
After that a key signed by the old authority is refused.
"""

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = datetime.timedelta(days=3650)
IDENTITY_LIFE = datetime.timedelta(days=90)
RENEW_AT = 2 / 3
"""Share of a certificate's life after which it is renewed: this leaves a month to notice a failing renewal."""
SPREAD = datetime.timedelta(minutes=10)
"""More than the time until every pod has read a changed Secret (the kubelet: up to two minutes)."""
_BACKDATED = datetime.timedelta(hours=1)
"""Clocks of nodes differ."""


class CertificateError(Exception):
    """A stored certificate or key is unusable; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class Authority:
    """PEM. Only the control plane may read the key."""

    cert: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM: the certificate of a process or of all routers, and the authorities that it trusts."""

    ca: bytes
    """Certificates of the authority: the present one first, then one that it followed, if any."""
    cert: bytes
    key: bytes


def renewed_authority(authority: Authority | None, now: datetime.datetime, rotate: bool = False) -> Authority:
    """The authority as it should be at `now`: the one that is there unless it is due, or `rotate` asks for another.

    Raises CertificateError.
    """
    return _new_authority(now) if authority is None or rotate or is_due(authority.cert, now) else authority


def renewed_identity(
    authority: Authority,
    identity: Identity | None,
    names: tuple[str, ...],
    now: datetime.datetime,
    rotate: bool = False,
) -> Identity:
    """The identity for the time `now`: the existing one as long as it is valid.

    authority: the current one, for signing; other authorities in `identity.ca` stay trusted as long as they are needed.
    names: DNS names and IP addresses of the certificate, the role (`cluster.trust`) first.
    rotate: make a new key and certificate now, or as soon as a new authority is known everywhere; default False.
    Raises CertificateError.
    """
    if identity is None or _is_over(identity.cert, now) or not _is_trusted(identity):
        return _issue(authority, (), names, now)
    others = _others(identity.ca, authority, now)
    if _load(authority.cert) not in _load_all(identity.ca):
        return Identity(authority.cert + identity.ca, identity.cert, identity.key)
    is_signed, is_known = _is_signed(identity.cert, authority.cert), now >= _made_at(authority.cert) + SPREAD
    is_asked = rotate or _names_of(identity.cert) != set(names) or is_due(identity.cert, now)
    # A certificate of a new authority would be refused by processes that have not read that authority yet.
    if (is_signed and is_asked) or (not is_signed and is_known):
        return _issue(authority, others, names, now)
    if others and is_signed and now >= _made_at(identity.cert) + SPREAD:
        return Identity(authority.cert, identity.cert, identity.key)
    return identity


def self_signed(names: tuple[str, ...], now: datetime.datetime) -> Identity:
    """A certificate without an authority, to answer probes before there is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    made = _leaf(name, names, key, now).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Identity(made, made, _pem(key))


def bundle(*certificates: bytes) -> bytes:
    """PEM certificates one after the other, each once."""
    found = dict.fromkeys(each for part in certificates if part for each in _load_all(part))
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def is_due(cert: bytes, now: datetime.datetime) -> bool:
    """True if a certificate (PEM) is due for renewal. Raises CertificateError."""
    loaded = _load(cert)
    begins, ends = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    return now >= begins + RENEW_AT * (ends - begins)


def _is_over(cert: bytes, now: datetime.datetime) -> bool:
    return now >= _load(cert).not_valid_after_utc


def _is_trusted(identity: Identity) -> bool:
    """True if one of the authorities has signed it."""
    return any(_is_issued(_load(identity.cert), authority) for authority in _load_all(identity.ca))


def _is_signed(cert: bytes, authority: bytes) -> bool:
    return _is_issued(_load(cert), _load(authority))


def _is_issued(cert: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        cert.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _made_at(cert: bytes) -> datetime.datetime:
    return _load(cert).not_valid_before_utc + _BACKDATED


def _names_of(cert: bytes) -> set[str]:
    try:
        alternative = _load(cert).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    addresses = map(str, alternative.get_values_for_type(x509.IPAddress))
    return {*alternative.get_values_for_type(x509.DNSName), *addresses}


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _others(bundle: bytes, authority: Authority, now: datetime.datetime) -> tuple[bytes, ...]:
    """Authorities of before that something may still be signed by."""
    present = _load(authority.cert)
    kept = (each for each in _load_all(bundle) if each != present and now < each.not_valid_after_utc)
    return tuple(each.public_bytes(Encoding.PEM) for each in kept)


def _new_authority(now: datetime.datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The time is part of the name: two authorities of one name confuse the lookup of an issuer.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"scorefront authority {now:%Y-%m-%dT%H:%M:%S.%fZ}")])
    made = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key))


def _issue(authority: Authority, others: tuple[bytes, ...], names: tuple[str, ...], now: datetime.datetime) -> Identity:
    """Raises CertificateError."""
    try:
        signer = load_pem_private_key(authority.key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the authority's key cannot be read: {error}") from error
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not an elliptic-curve key")
    issuer = _load(authority.cert)
    if issuer.public_key() != signer.public_key():
        raise CertificateError("the authority's key does not belong to its certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = _leaf(issuer.subject, names, key, now).add_extension(issued_by, critical=False)
    cert = made.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Identity(b"".join((authority.cert, *others)), cert, _pem(key))


def _leaf(
    issuer: x509.Name, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    """A certificate for `names` that signs nothing, for both ends of a link."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _builder(subject, issuer, key.public_key(), now, IDENTITY_LIFE)
        .add_extension(x509.SubjectAlternativeName(list(map(_alternative, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    life: datetime.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(cert: bytes) -> x509.Certificate:
    return _load_all(cert)[0]


def _load_all(certs: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(certs)
    except ValueError as error:
        raise CertificateError(f"a certificate cannot be read: {error}") from error
