"""The certificates of an installation: created if missing, kept while valid, renewed without a gap."""

import datetime
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cluster.kubernetes.certificates import (
    AUTHORITY_LIFE,
    IDENTITY_LIFE,
    RENEW_AT,
    SPREAD,
    Authority,
    CertificateError,
    Identity,
    bundle,
    is_due,
    renewed_authority,
    renewed_identity,
    self_signed,
)
from cluster.trust import CONTROL, ROUTER

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def renewed(
    authority: Authority | None, identity: Identity | None, now: datetime.datetime
) -> tuple[Authority, Identity]:
    """Both, as the leader has them for the routers."""
    present = renewed_authority(authority, now)
    return present, renewed_identity(present, identity, (ROUTER,), now)


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def trusts(one: Identity, other: Identity) -> bool:
    """True if a process with `one` accepts the certificate of a process with `other`."""
    for authority in x509.load_pem_x509_certificates(one.ca):
        try:
            parsed(other.cert).verify_directly_issued_by(authority)
        except Exception:  # of any kind: it is not signed by this one
            continue
        return True
    return False


def test_an_identity_is_for_the_routers_at_both_ends_and_signs_nothing() -> None:
    authority, identity = renewed(None, None, NOW)
    cert = parsed(identity.cert)
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [ROUTER]
    uses = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    public = cert.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert identity.ca == authority.cert
    assert trusts(identity, identity)


@pytest.mark.parametrize("age", [datetime.timedelta(0), RENEW_AT * IDENTITY_LIFE - 2 * HOUR])
def test_a_valid_certificate_is_kept(age: timedelta) -> None:
    made = renewed(None, None, NOW)
    assert renewed(*made, NOW + age) == made


def test_an_identity_is_made_anew_after_two_thirds_of_its_life_by_the_same_authority() -> None:
    authority, identity = renewed(None, None, NOW)
    later = NOW + RENEW_AT * IDENTITY_LIFE
    assert is_due(identity.cert, later)
    same, fresh = renewed(authority, identity, later)
    assert (same, fresh.ca) == (authority, identity.ca)
    assert fresh.key != identity.key
    assert parsed(fresh.cert).not_valid_after_utc == later + IDENTITY_LIFE
    assert trusts(identity, fresh) and trusts(fresh, identity), "some mount the old one for a minute still"


def test_over_many_years_all_trust_each_other_at_every_step() -> None:
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


def test_an_authority_with_a_lost_key_is_followed_by_another_that_is_trusted_first() -> None:
    _, identity = renewed(None, None, NOW)
    authority, kept = renewed(None, identity, NOW + HOUR)
    assert (kept.cert, kept.key) == (identity.cert, identity.key)
    assert kept.ca == authority.cert + identity.ca
    assert renewed(authority, identity, NOW + HOUR) == (authority, kept), "also when the first was written alone"


@pytest.mark.parametrize("late", [IDENTITY_LIFE, 2 * AUTHORITY_LIFE])
def test_expired_certificates_are_created_anew_as_a_whole(late: timedelta) -> None:
    authority, identity = renewed(None, None, NOW)
    fresh = renewed(authority, identity, NOW + late)
    assert not is_due(fresh[0].cert, NOW + late) and not is_due(fresh[1].cert, NOW + late)
    assert trusts(fresh[1], fresh[1])


def test_an_identity_of_another_authority_is_not_kept() -> None:
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
def test_unusable_certificates_are_reported(spoil: Callable[..., Any], told: str) -> None:
    authority, _ = renewed(None, None, NOW)
    with pytest.raises(CertificateError, match=told):
        renewed(spoil(authority), None, NOW)


# ---- names, and certificates created on request


def test_a_control_process_has_a_name_of_its_own_and_its_addresses() -> None:
    authority = renewed_authority(None, NOW)
    names = (CONTROL, "localhost", "10.0.0.7", "::1")
    cert = parsed(renewed_identity(authority, None, names, NOW).cert)
    alternative = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == [CONTROL, "localhost"]
    assert list(map(str, alternative.get_values_for_type(x509.IPAddress))) == ["10.0.0.7", "::1"]


def test_an_identity_with_other_names_is_made_anew_and_the_old_one_trusted() -> None:
    authority = renewed_authority(None, NOW)
    before = renewed_identity(authority, None, ("scorefront-peers",), NOW)
    after = renewed_identity(authority, before, (ROUTER,), NOW)
    assert after.cert != before.cert and trusts(after, before)
    assert renewed_identity(authority, after, (ROUTER,), NOW) == after


def test_a_key_that_leaked_is_replaced_when_asked_for() -> None:
    authority, identity = renewed(None, None, NOW)
    after = renewed_identity(authority, identity, (ROUTER,), NOW + HOUR, rotate=True)
    assert after.key != identity.key and trusts(after, identity) and trusts(identity, after)


def test_after_a_rotation_of_the_authority_old_certificates_are_invalid_and_nothing_breaks_meanwhile() -> None:
    first, leaked = renewed(None, None, NOW)
    now = NOW + HOUR
    second = renewed_authority(first, now, rotate=True)
    identity, steps = leaked, 0
    while trusts(identity, leaked):
        now += SPREAD / 3
        fresh = renewed_identity(second, identity, (ROUTER,), now)
        assert trusts(identity, fresh) and trusts(fresh, identity), "some have not read the newest one"
        identity, steps = fresh, steps + 1
    assert steps <= 8 and identity.ca == second.cert
    assert not trusts(leaked, identity)


def test_a_request_in_the_middle_of_a_rotation_waits_until_the_new_authority_is_known() -> None:
    first, identity = renewed(None, None, NOW)
    second = renewed_authority(first, NOW + HOUR, rotate=True)
    early = renewed_identity(second, identity, (ROUTER,), NOW + HOUR, rotate=True)
    assert early.cert == identity.cert
    late = renewed_identity(second, early, (ROUTER,), NOW + HOUR + SPREAD, rotate=True)
    assert late.key != identity.key and trusts(early, late)


def test_a_self_signed_certificate_is_trusted_by_no_other() -> None:
    _, identity = renewed(None, None, NOW)
    alone = self_signed((CONTROL,), NOW)
    assert not trusts(identity, alone) and not trusts(alone, identity)


def test_a_bundle_has_each_certificate_once() -> None:
    one, two = renewed_authority(None, NOW), renewed_authority(None, NOW)
    assert bundle(one.cert, b"", two.cert + one.cert) == one.cert + two.cert
