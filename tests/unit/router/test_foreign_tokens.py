"""Tokens of foreign issuers: every rule of their check, and of the keys that they are checked with."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from router.core.issuer_keys import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    REFRESH_S,
    UNKNOWN_KEY_PAUSE_S,
    IssuerKeySets,
    read_key_set,
)
from router.core.router_errors import Forbidden, Unauthorized
from router.core.table import Table
from serving.credentials import KeyDigests
from serving.endpoint import Auth, ForeignIssuer
from tests.unit.router.records import endpoint

NOW = 1_700_000_000
ISSUER = "https://login.example/tenant"
SOURCE = "https://login.example/keys"
RSA = rsa.generate_private_key(65537, 2048)
SMALL_RSA = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ALGORITHM_OF = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
IRIS = ForeignIssuer(ISSUER, "api://iris", SOURCE, (("role", "scorer"),))


def jwk(private: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    name = next(name for kind, name in ALGORITHM_OF.items() if isinstance(private, kind))
    made: dict[str, Any] = json.loads(jwt.get_algorithm_by_name(name).to_jwk(private.public_key()))
    made.pop("key_ops", None)
    return made | ({"kid": kid} if kid is not None else {}) | more


def key_set(*keys: Mapping[str, Any]) -> str:
    return json.dumps({"keys": keys})


KEYS = key_set(jwk(RSA, "rsa-1"), jwk(EC, "ec-1"), jwk(ED, "ed-1"))


def token(private: Any = RSA, kid: str | None = "rsa-1", alg: str = "RS256", **changed: Any) -> bytes:
    claims = {"iss": ISSUER, "aud": "api://iris", "exp": NOW + 600, "role": "scorer", "sub": "ada"} | changed
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, private, alg, {"kid": kid} if kid is not None else None).encode()


@pytest.fixture
def table() -> Table:
    made = Table()
    made.upsert(endpoint("iris", auth=Auth.TOKEN, token_issuers=(IRIS,)))
    made.set_keys(KeyDigests("iris", (), "life"))
    made.set_issuer_keys(SOURCE, read_key_set(KEYS), 0.0)
    return made


def authorize(table: Table, credential: bytes, now: float = NOW) -> float:
    return table.authorize(table.match(b"/api/v1/service/iris/score").route, (b"Bearer " + credential,), now)


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(alg="PS512"),
        token(EC, "ec-1", "ES256"),
        token(ED, "ed-1", "EdDSA"),
        token(kid=None),
        token(aud=["other", "api://iris"]),
        token(role=["reader", "scorer"]),
        token(nbf=NOW - 5, iat=NOW - 5),
    ],
)
def test_a_token_of_a_declared_issuer_is_accepted_until_it_expires(table: Table, good: bytes) -> None:
    assert authorize(table, good) == NOW + 660
    with pytest.raises(Unauthorized):
        authorize(table, good, NOW + 660)
    with pytest.raises(Unauthorized):
        authorize(table, good)  # a clock set back does not revive it


@pytest.mark.parametrize(
    "wrong",
    [
        token(iss="https://login.example/other"),
        token(iss=None),
        token(exp=None),
        token(exp=NOW - 61),
        token(nbf=NOW + 61),
        token(iat=NOW + 61),
        token(nbf="soon"),
        token(rsa.generate_private_key(65537, 2048)),
        token(kid="rsa-2"),
        token(EC, "rsa-1", "ES256"),
        token()[:-4] + b"AAAA",
        jwt.encode({"iss": ISSUER, "aud": "api://iris", "exp": NOW + 60, "role": "scorer"}, "", "none").encode(),
        jwt.encode({"iss": ISSUER, "aud": "api://iris", "exp": NOW + 60}, "k" * 32, "HS256", {"kid": "rsa-1"}).encode(),
        jwt.encode({"iss": ISSUER, "exp": NOW + 60}, RSA, "RS256", {"kid": "rsa-1", "crit": ["exp"]}).encode(),
        b"not.a.token",
    ],
)
def test_a_token_with_a_broken_rule_is_unauthorized(table: Table, wrong: bytes) -> None:
    for _ in range(2):
        with pytest.raises(Unauthorized):
            authorize(table, wrong)


@pytest.mark.parametrize("other", [token(aud="api://other"), token(aud=None), token(role="reader"), token(role=None)])
def test_a_valid_token_without_the_audience_or_a_claim_is_forbidden(table: Table, other: bytes) -> None:
    for _ in range(2):
        with pytest.raises(Forbidden):
            authorize(table, other)


def test_a_key_that_is_withdrawn_ends_the_tokens_it_signed(table: Table) -> None:
    good, generation = token(), table.generation
    authorize(table, good)
    assert table.set_issuer_keys(SOURCE, read_key_set(key_set(jwk(EC, "ec-1"))), 1.0)
    assert table.generation > generation
    with pytest.raises(Unauthorized):
        authorize(table, good)


def test_an_issuer_that_is_no_longer_declared_is_not_trusted(table: Table) -> None:
    authorize(table, token())
    table.upsert(endpoint("iris", auth=Auth.TOKEN))
    assert table.issuer_keys.due(math.inf) == []
    with pytest.raises(Unauthorized):
        authorize(table, token())


def test_only_the_declaring_endpoint_trusts_an_issuer(table: Table) -> None:
    table.upsert(endpoint("other", auth=Auth.TOKEN))
    with pytest.raises(Unauthorized):
        table.authorize(table.match(b"/api/v1/service/other/score").route, (b"Bearer " + token(),), NOW)


# ---- keys


@pytest.mark.parametrize(
    "unusable",
    [
        jwk(RSA, "x", use="enc"),
        jwk(RSA, "x", key_ops=["encrypt"]),
        jwk(RSA, "x", alg="HS256"),
        jwk(SMALL_RSA, "x"),
        {"kty": "oct", "kid": "x", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
        {"kty": "RSA", "kid": "x", "n": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"},
        {"kty": "none"},
    ],
)
def test_an_unusable_key_is_left_out(unusable: dict[str, Any]) -> None:
    assert [key.kid for key in read_key_set(key_set(unusable, jwk(EC, "ec-1")))] == ["ec-1"]
    with pytest.raises(ValueError, match="no key for signatures"):
        read_key_set(key_set(unusable))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": {}}', "<html>", '{"keys": []}'])
def test_a_document_that_is_no_key_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_key_set(text)


def test_the_algorithm_of_a_key_is_binding() -> None:
    (key,) = read_key_set(key_set(jwk(RSA, "x", alg="PS256")))
    assert key.algorithms == ("PS256",)


# ---- times


def test_new_sources_are_due_at_once_and_then_periodically() -> None:
    sets, calls = IssuerKeySets(), []
    sets.on_due = lambda: calls.append("due")
    sets.declare({SOURCE})
    assert (sets.due(0.0), calls) == ([SOURCE], ["due"])
    sets.fetched(SOURCE, read_key_set(KEYS), 10.0)
    assert sets.due(10.0 + REFRESH_S - 1) == []
    assert sets.due(10.0 + REFRESH_S) == [SOURCE]
    sets.declare(set())
    assert (sets.due(math.inf), sets.next_due()) == ([], math.inf)


def test_an_unknown_key_is_asked_for_at_most_every_pause(table: Table) -> None:
    keys = table.issuer_keys
    for _ in range(3):
        with pytest.raises(Unauthorized):
            authorize(table, token(kid="rsa-2"))
    assert keys.due(UNKNOWN_KEY_PAUSE_S - 1) == []
    assert keys.due(UNKNOWN_KEY_PAUSE_S) == [SOURCE]
    keys.fetched(SOURCE, read_key_set(KEYS), UNKNOWN_KEY_PAUSE_S)
    assert keys.due(UNKNOWN_KEY_PAUSE_S + 1) == []


def test_the_last_good_keys_serve_while_an_issuer_is_away(table: Table) -> None:
    keys, now = table.issuer_keys, REFRESH_S
    for failures in range(12):
        keys.failed(SOURCE, now)
        authorize(table, token())
        now = keys.next_due()
        assert now - REFRESH_S <= sum(min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**each) for each in range(failures + 1))
    assert keys.due(now) == [SOURCE]
