"""The certificates of an installation: made where there are none, kept while they are good, renewed without a gap."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.kubernetes.certificates import (
    AUTHORITY_LIFE,
    IDENTITY_LIFE,
    RENEW_AT,
    Authority,
    CertificateError,
    Identity,
    is_due,
    renewed,
)
from cluster.trust import PEERS

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def trusts(one: Identity, other: Identity) -> bool:
    """Whether a process with `one` takes what a process with `other` shows."""
    for authority in x509.load_pem_x509_certificates(one.ca):
        try:
            parsed(other.cert).verify_directly_issued_by(authority)
        except Exception:  # of any kind: it is not signed by this one
            continue
        return True
    return False


def test_an_identity_is_for_the_peers_in_both_roles_and_signs_nothing():
    authority, identity = renewed(None, None, NOW)
    cert = parsed(identity.cert)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [PEERS]
    uses = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(cert.public_key(), ec.EllipticCurvePublicKey)
    assert cert.public_key().curve.name == "secp256r1"
    assert identity.ca == authority.cert
    assert trusts(identity, identity)


@pytest.mark.parametrize("age", [datetime.timedelta(0), RENEW_AT * IDENTITY_LIFE - 2 * HOUR])
def test_what_is_good_is_left_as_it_is(age):
    made = renewed(None, None, NOW)
    assert renewed(*made, NOW + age) == made


def test_an_identity_is_made_anew_after_two_thirds_of_its_life_by_the_same_authority():
    authority, identity = renewed(None, None, NOW)
    later = NOW + RENEW_AT * IDENTITY_LIFE
    assert is_due(identity.cert, later)
    same, fresh = renewed(authority, identity, later)
    assert (same, fresh.ca) == (authority, identity.ca)
    assert fresh.key != identity.key
    assert parsed(fresh.cert).not_valid_after_utc == later + IDENTITY_LIFE
    assert trusts(identity, fresh) and trusts(fresh, identity), "some mount the old one for a minute still"


def test_over_many_years_everybody_trusts_everybody_at_every_step():
    authority, identity = renewed(None, None, NOW)
    authorities, now = {authority.cert}, NOW
    while now < NOW + 2.2 * AUTHORITY_LIFE:
        now += datetime.timedelta(days=10)
        authority, fresh = renewed(authority, identity, now)
        assert trusts(identity, fresh) and trusts(fresh, identity)
        assert parsed(fresh.cert).not_valid_after_utc > now + IDENTITY_LIFE * (1 - RENEW_AT) - datetime.timedelta(
            days=11
        )
        authorities.add(authority.cert)
        identity = fresh
    assert len(authorities) == 4
    assert len(x509.load_pem_x509_certificates(identity.ca)) <= 2, "those that have ended are not carried along"


def test_an_authority_whose_key_was_lost_is_followed_by_another_that_is_trusted_first():
    _, identity = renewed(None, None, NOW)
    authority, kept = renewed(None, identity, NOW + HOUR)
    assert (kept.cert, kept.key) == (identity.cert, identity.key)
    assert kept.ca == authority.cert + identity.ca
    assert renewed(authority, identity, NOW + HOUR) == (authority, kept), "also when the first was written alone"


@pytest.mark.parametrize("late", [IDENTITY_LIFE, 2 * AUTHORITY_LIFE])
def test_what_has_ended_is_made_anew_whole(late):
    authority, identity = renewed(None, None, NOW)
    fresh = renewed(authority, identity, NOW + late)
    assert not is_due(fresh[0].cert, NOW + late) and not is_due(fresh[1].cert, NOW + late)
    assert trusts(fresh[1], fresh[1])


def test_an_identity_of_another_authority_is_not_kept():
    authority, _ = renewed(None, None, NOW)
    _, stranger = renewed(None, None, NOW)
    wrong = Identity(authority.cert, stranger.cert, stranger.key)
    assert trusts(*[renewed(authority, wrong, NOW)[1]] * 2)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda good: Authority(b"nonsense", good.key), "cannot be read"),
        (lambda good: Authority(good.cert, b"nonsense"), "key cannot be read"),
        (lambda good: Authority(good.cert, renewed(None, None, NOW)[0].key), "does not belong"),
    ],
)
def test_what_cannot_be_used_is_told(spoil, told):
    authority, _ = renewed(None, None, NOW)
    with pytest.raises(CertificateError, match=told):
        renewed(spoil(authority), None, NOW)
