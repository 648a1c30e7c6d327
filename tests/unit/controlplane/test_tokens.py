import re

import jwt
import pytest

from controlplane.tokens import (
    CLOCK_SLACK_S,
    LIFETIME_S,
    PUBLISH_LEAD_S,
    ROTATE_EVERY_S,
    IssuedToken,
    Keyring,
    TokenAlgorithm,
    new_keyring,
    new_signing_key,
)

T0 = 1_700_000_000.0
EDDSA, RS256 = TokenAlgorithm.EDDSA, TokenAlgorithm.RS256


def rotated(ring: Keyring, now: float, algorithm: TokenAlgorithm = EDDSA) -> Keyring:
    return ring.with_key(new_signing_key(algorithm, now), now)


def claims_of(token: IssuedToken, ring: Keyring, endpoint: str) -> dict[str, int | str]:
    header = jwt.get_unverified_header(token.access_token)
    key = next(key for key in ring.trust().keys if key.kid == header["kid"])
    return jwt.decode(
        token.access_token,
        key.public_pem,
        algorithms=[key.algorithm],
        audience=ring.trust().audience(endpoint),
        issuer=ring.issuer,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )


@pytest.mark.parametrize("algorithm", [EDDSA, RS256])
def test_a_token_is_verified_with_the_published_key_and_has_its_audience(algorithm: TokenAlgorithm) -> None:
    ring = new_keyring("here", algorithm, T0)
    token = ring.issue("iris", "life-1", T0 + 0.7, "id-1")
    assert claims_of(token, ring, "iris") == {
        "iss": "scorefront/here",
        "aud": "urn:scorefront:endpoint:iris",
        "inc": "life-1",
        "sub": "iris",
        "iat": T0,
        "nbf": T0,
        "exp": T0 + 13 * 3600,
        "jti": "id-1",
    }
    assert jwt.get_unverified_header(token.access_token)["alg"] == algorithm.value


def test_a_token_for_one_endpoint_is_not_for_another() -> None:
    ring = new_keyring("here", EDDSA, T0)
    with pytest.raises(jwt.InvalidAudienceError):
        claims_of(ring.issue("iris", "life-1", T0, "x"), ring, "wine")


def test_a_token_is_accepted_for_12_hours_after_it_should_be_refreshed() -> None:
    token = new_keyring("here", EDDSA, T0).issue("iris", "life-1", T0, "x")
    assert token.refresh_after == T0 + 3600
    assert token.expires_on == token.refresh_after + 12 * 3600


def test_a_first_key_signs_at_once() -> None:
    ring = new_keyring("here", EDDSA, T0)
    assert ring.signer(T0) == ring.keys[0]


def test_a_new_key_is_published_before_it_signs() -> None:
    ring = rotated(new_keyring("here", EDDSA, T0), T0 + 100)
    old, new = ring.keys
    assert {key.kid for key in ring.trust().keys} == {old.kid, new.kid}
    assert ring.signer(T0 + 100) == old
    assert ring.signer(T0 + 100 + PUBLISH_LEAD_S) == new


def test_a_key_is_replaced_after_a_day_or_when_another_algorithm_is_wanted() -> None:
    ring = new_keyring("here", EDDSA, T0)
    assert not ring.rotation_due(T0 + ROTATE_EVERY_S - 1, EDDSA)
    assert ring.rotation_due(T0 + ROTATE_EVERY_S, EDDSA)
    assert ring.rotation_due(T0, RS256)


def test_an_old_key_is_trusted_until_its_last_token_has_expired() -> None:
    ring = rotated(new_keyring("here", EDDSA, T0), T0 + 100)
    old, new = ring.keys
    last_token = ring.issue("iris", "life-1", new.signs_from - 1, "x")
    assert old in ring.without_expired(last_token.expires_on).keys
    assert ring.without_expired(new.signs_from + LIFETIME_S + CLOCK_SLACK_S).keys == (new,)


def test_the_newest_key_is_never_dropped() -> None:
    ring = new_keyring("here", EDDSA, T0)
    assert ring.without_expired(T0 + 10 * ROTATE_EVERY_S) == ring


def test_a_clock_that_went_back_still_finds_a_signer() -> None:
    ring = rotated(new_keyring("here", EDDSA, T0), T0 + 100)
    assert ring.signer(T0 - 5000) == ring.keys[0]


def test_no_private_key_is_in_a_repr_or_sent_to_routers() -> None:
    ring = new_keyring("here", EDDSA, T0)
    for text in (repr(ring), repr(ring.trust()), repr(ring.issue("iris", "life-1", T0, "x"))):
        assert "PRIVATE" not in text and re.search(r"eyJ[\w-]*\.", text) is None
