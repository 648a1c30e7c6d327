"""The certificates by which the processes of one installation know each other: an authority of its own, one identity.

Times come in as arguments. The authority outlives many identities; when its own time comes, the new one is trusted
beside the old one before anything is signed by it.
"""

import datetime
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

from cluster.trust import PEERS

AUTHORITY_LIFE = datetime.timedelta(days=3650)
IDENTITY_LIFE = datetime.timedelta(days=90)
RENEW_AT = 2 / 3
"""Share of a certificate's life after which it is made anew: a month is left to notice that it is not."""
_BACKDATED = datetime.timedelta(hours=1)
"""Clocks of nodes differ."""


class CertificateError(Exception):
    """What is kept cannot be used; the text tells why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """PEM. Only the control plane may read the key."""

    cert: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM: what every process shows to the others, and whom it trusts."""

    ca: bytes
    """Certificates of the authority: the present one first, then one that it followed, if any."""
    cert: bytes
    key: bytes


def renewed(
    authority: Authority | None, identity: Identity | None, now: datetime.datetime
) -> tuple[Authority, Identity]:
    """Both as they should be at `now`: what is there and good stays as it is.

    A new authority is only trusted at first; what is signed by the old one is good until its own time comes, and by
    then everybody has read of the new one. Raises CertificateError.
    """
    if authority is None or is_due(authority.cert, now):
        authority = _new_authority(now)
    if identity is None or _is_over(identity.cert, now) or not _is_trusted(identity):
        return authority, _issue(authority, (), now)
    if _load(authority.cert) not in _load_all(identity.ca):
        return authority, Identity(authority.cert + identity.ca, identity.cert, identity.key)
    if is_due(identity.cert, now):
        return authority, _issue(authority, _others(identity.ca, authority, now), now)
    return authority, identity


def is_due(cert: bytes, now: datetime.datetime) -> bool:
    """Whether a certificate (PEM) should be made anew. Raises CertificateError."""
    loaded = _load(cert)
    begins, ends = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    return now >= begins + RENEW_AT * (ends - begins)


def _is_over(cert: bytes, now: datetime.datetime) -> bool:
    return now >= _load(cert).not_valid_after_utc


def _is_trusted(identity: Identity) -> bool:
    """Whether one of the authorities that it names has signed it."""
    cert = _load(identity.cert)
    for authority in _load_all(identity.ca):
        try:
            cert.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _others(bundle: bytes, authority: Authority, now: datetime.datetime) -> tuple[bytes, ...]:
    """Authorities of before that something may still be signed by."""
    present = _load(authority.cert)
    kept = (each for each in _load_all(bundle) if each != present and now < each.not_valid_after_utc)
    return tuple(each.public_bytes(Encoding.PEM) for each in kept)


def _new_authority(now: datetime.datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The moment stands in the name: two authorities of one name confuse those who look for an issuer.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{PEERS} authority {now:%Y-%m-%dT%H:%M:%SZ}")])
    made = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), _pem(key))


def _issue(authority: Authority, others: tuple[bytes, ...], now: datetime.datetime) -> Identity:
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
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PEERS)])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = (
        _builder(name, issuer.subject, key.public_key(), now, IDENTITY_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PEERS)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    cert = made.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Identity(b"".join((authority.cert, *others)), cert, _pem(key))


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
