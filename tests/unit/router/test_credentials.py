"""Authorization: every way of RFC 8725, and of the attacks on JWT libraries, to present a plausible credential."""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from router.core import authorization as credentials
from router.core.authorization import CACHED_TOKENS, CLOCK_SKEW_S, CREDENTIAL_MAX_BYTES, Tokens, authorize, opens
from router.core.router_errors import Forbidden, Unauthorized
from router.core.table import Table
from serving.credentials import KeyDigests, TokenKey, TokenTrust
from serving.endpoint import Auth

NOW = 1_700_000_000
ISSUER = "https://scorefront.example"
IRIS = TokenTrust.audience("iris")
LIFE = "incarnation-1"
PRIMARY, SECONDARY = b"kP3" + b"a" * 40, b"kS3" + b"b" * 40
DIGESTS = tuple(hashlib.sha256(key).digest() for key in (PRIMARY, SECONDARY))
KEYS = KeyDigests("iris", DIGESTS, LIFE)
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
RSA = rsa.generate_private_key(65537, 2048)
NONE = Tokens(TokenTrust(""))


def pem(private: Any) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def der(private: Any) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


TRUST = TokenTrust(ISSUER, (TokenKey("ed-1", "EdDSA", pem(ED)), TokenKey("rsa-1", "RS256", pem(RSA))))


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(TRUST)


def b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims; a value of None takes one away."""
    whole = {"iss": ISSUER, "aud": IRIS, "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "inc": LIFE} | changed
    return {name: value for name, value in whole.items() if value is not None}


def by_ed(signed: bytes) -> bytes:
    return ED.sign(signed)


def by_rsa(signed: bytes) -> bytes:
    return RSA.sign(signed, padding.PKCS1v15(), hashes.SHA256())


def by_secret(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()


def raw_token(header: bytes, payload: bytes, sign: Callable[[bytes], bytes] = by_ed) -> bytes:
    """A token of exactly these bytes, signed by `sign`."""
    signed = b64(header) + b"." + b64(payload)
    return signed + b"." + b64(sign(signed))


def token(
    payload: dict[str, Any] | None = None,
    sign: Callable[[bytes], bytes] = by_ed,
    *,
    alg: Any = "EdDSA",
    kid: Any = "ed-1",
    **header: Any,
) -> bytes:
    fields = {"alg": alg, "typ": "JWT", "kid": kid} | header
    kept = {name: value for name, value in fields.items() if value is not None}
    return raw_token(json.dumps(kept).encode(), json.dumps(payload or claims()).encode(), sign)


def refused(tokens: Tokens, presented: bytes, now: float = NOW) -> None:
    with pytest.raises(Unauthorized):
        tokens.authorize(presented, KEYS, now)


# ---- valid certificates


def test_a_token_of_pyjwt_signed_with_either_algorithm_opens_the_endpoint(tokens: Tokens) -> None:
    for key, algorithm, kid in ((ED, "EdDSA", "ed-1"), (RSA, "RS256", "rsa-1")):
        made = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": kid}).encode()
        assert tokens.authorize(made, KEYS, NOW) == NOW + 3600 + CLOCK_SKEW_S


def test_the_tokens_that_these_tests_make_are_good_until_something_is_changed(tokens: Tokens) -> None:
    tokens.authorize(token(), KEYS, NOW)
    tokens.authorize(token(sign=by_rsa, alg="RS256", kid="rsa-1"), KEYS, NOW)


def test_a_token_may_name_several_audiences_and_lack_not_before(tokens: Tokens) -> None:
    tokens.authorize(token(claims(aud=["urn:other", IRIS], nbf=None)), KEYS, NOW)


# ---- algorithm and key (items 1 to 8)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], ["EdDSA"], "eddsa", "EdDSA "])
@pytest.mark.parametrize("signature", ["empty", "good"])
def test_an_algorithm_that_is_not_that_of_the_key_is_refused(
    tokens: Tokens, alg: int | list[str] | str | None, signature: str
) -> None:
    refused(tokens, token(alg=alg, sign=by_ed if signature == "good" else lambda signed: b""))


def test_a_token_without_a_signature_is_refused(tokens: Tokens) -> None:
    header, payload, _ = token().split(b".")
    refused(tokens, header + b"." + payload + b".")
    refused(tokens, header + b"." + payload)


@pytest.mark.parametrize("private", [ED, RSA], ids=["Ed25519", "RSA"])
def test_a_public_key_is_no_hmac_secret(tokens: Tokens, private: Any) -> None:
    kid = "ed-1" if private is ED else "rsa-1"
    own_alg = "EdDSA" if private is ED else "RS256"
    secrets = [pem(private).encode(), pem(private).strip().encode(), der(private)]
    for secret in secrets:
        for alg in ("HS256", own_alg):
            refused(tokens, token(alg=alg, kid=kid, sign=by_secret(secret)))


def test_algorithms_do_not_change_places_between_keys(tokens: Tokens) -> None:
    refused(tokens, token(alg="RS256", kid="ed-1", sign=by_rsa))
    refused(tokens, token(alg="EdDSA", kid="rsa-1", sign=by_ed))
    refused(tokens, token(alg="RS256", kid="ed-1", sign=by_ed))


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "ES256", "HS256", "ES256K", "Ed25519"])
def test_an_algorithm_beside_the_allowed_one_is_refused_even_with_the_right_key(tokens: Tokens, alg: str) -> None:
    refused(tokens, token(alg=alg, kid="rsa-1", sign=by_rsa))
    refused(tokens, token(alg=alg, kid="ed-1", sign=by_ed))


def test_a_signature_by_a_key_that_is_not_trusted_is_refused(tokens: Tokens) -> None:
    refused(tokens, token(sign=OTHER_ED.sign))
    refused(tokens, token(sign=lambda signed: bytes(64)))
    refused(tokens, token(sign=lambda signed: by_ed(signed)[:-1]))
    refused(tokens, token(sign=lambda signed: by_ed(signed) + b"\0"))
    refused(tokens, token(sign=lambda signed: b"\0" + by_rsa(signed), alg="RS256", kid="rsa-1"))


def test_a_changed_claim_or_header_breaks_the_signature(tokens: Tokens) -> None:
    header, payload, signature = token().split(b".")
    other = b64(json.dumps(claims(exp=NOW + 7200)).encode())
    refused(tokens, b".".join((header, other, signature)))
    other = b64(json.dumps({"alg": "EdDSA", "kid": "ed-1"}).encode())
    refused(tokens, b".".join((other, payload, signature)))


@pytest.mark.parametrize(
    "kid", ["", "ed-2", "ED-1", "../ed-1", "../../etc/passwd", "ed-1'", 'ed-1" OR 1=1', "ed-1\x00", "k" * 10_000]
)
def test_a_key_id_that_is_not_known_is_refused(tokens: Tokens, kid: str) -> None:
    refused(tokens, token(kid=kid))


@pytest.mark.parametrize("kid", [None, 1, 0, True, 1.5, [], ["ed-1"], {}, {"ed-1": 1}])
def test_a_key_id_that_is_no_text_is_refused(tokens: Tokens, kid: Any) -> None:
    header = {"alg": "EdDSA", "kid": kid}
    refused(tokens, raw_token(json.dumps(header).encode(), json.dumps(claims()).encode()))


def jwk(private: ed25519.Ed25519PrivateKey) -> dict[str, str]:
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "kid": "ed-1", "x": b64(public).decode()}


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": jwk(OTHER_ED)},
        {"jku": "https://attacker.example/jwks.json"},
        {"x5u": "https://attacker.example/chain.pem"},
        {"x5c": [base64.b64encode(der(OTHER_ED)).decode()]},
        {"x5t": "AAAA"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_key_that_a_token_brings_along_is_ignored(tokens: Tokens, header: dict[str, Any]) -> None:
    refused(tokens, token(sign=OTHER_ED.sign, **header))
    refused(tokens, token(sign=OTHER_ED.sign, kid=None, **header))
    tokens.authorize(token(**header), KEYS, NOW)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], None, "exp", {}])
def test_any_critical_extension_is_refused(tokens: Tokens, crit: dict[str, Any] | list[str] | str | None) -> None:
    header = {"alg": "EdDSA", "kid": "ed-1", "crit": crit, "b64": True}
    refused(tokens, raw_token(json.dumps(header).encode(), json.dumps(claims()).encode()))


# ---- dates (items 9 to 12)


@pytest.mark.parametrize("missing", ["exp", "iat", "iss", "aud"])
def test_a_claim_that_is_needed_and_missing_is_refused(tokens: Tokens, missing: str) -> None:
    refused(tokens, token(claims(**{missing: None})))


def test_an_expired_token_is_good_for_59_seconds_and_not_for_61(tokens: Tokens) -> None:
    made = token()
    assert tokens.authorize(made, KEYS, NOW + 3600 + 59)
    refused(tokens, made, NOW + 3600 + 60)
    refused(tokens, made, NOW + 3600 + 61)


def test_a_token_is_good_59_seconds_before_its_time_and_not_61(tokens: Tokens) -> None:
    made = token(claims(nbf=NOW + 100, iat=NOW))
    assert tokens.authorize(made, KEYS, NOW + 100 - 59)
    refused(tokens, made, NOW + 100 - 61)


@pytest.mark.parametrize("incarnation", [None, "", "incarnation-2", 1])
def test_a_token_of_another_incarnation_is_refused(tokens: Tokens, incarnation: str | int | None) -> None:
    refused(tokens, token(claims(inc=incarnation)))


@pytest.mark.parametrize("incarnation", ["", LIFE, None])
def test_an_endpoint_without_an_incarnation_accepts_no_token(tokens: Tokens, incarnation: str | None) -> None:
    with pytest.raises(Unauthorized):
        tokens.authorize(token(claims(inc=incarnation)), KeyDigests("iris", DIGESTS, ""), NOW)


def test_the_clock_skew_is_included_at_the_begin_and_excluded_at_the_end(tokens: Tokens) -> None:
    assert tokens.authorize(token(claims(iat=NOW - 60, nbf=NOW + 60)), KEYS, NOW)
    assert tokens.authorize(token(claims(iat=NOW + 60, nbf=None)), KEYS, NOW)
    refused(tokens, token(claims(iat=NOW - 3600, nbf=None, exp=NOW - 60)))


def test_a_token_issued_in_the_future_is_refused(tokens: Tokens) -> None:
    made = token(claims(iat=NOW + 1000, nbf=NOW))
    assert tokens.authorize(made, KEYS, NOW + 1000 - 59)
    refused(tokens, made, NOW + 1000 - 61)


def test_a_token_that_would_live_for_more_than_a_week_is_refused(tokens: Tokens) -> None:
    week = 7 * 24 * 3600
    tokens.authorize(token(claims(exp=NOW + week)), KEYS, NOW)
    refused(tokens, token(claims(exp=NOW + week + 1)))


ODD_DATES = [
    f'"{NOW + 3600}"',
    '"never"',
    f"{NOW + 3600}.0",
    f"{NOW + 3600}.5",
    "NaN",
    "Infinity",
    "1e400",
    "-1e400",
    "1.7e9",
    "-1",
    "true",
    "null",
    "[]",
    f"[{NOW + 3600}]",
    "{}",
    str(2**53),
    "9" * 400,
    "9" * 5000,
]


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ODD_DATES, ids=lambda value: value[:20])
def test_a_date_of_an_odd_type_or_size_is_refused(tokens: Tokens, name: str, value: str) -> None:
    payload = json.dumps(claims(**{name: "HERE"})).replace('"HERE"', value)
    refused(tokens, raw_token(b'{"alg":"EdDSA","kid":"ed-1"}', payload.encode()))


def test_odd_dates_lie_on_both_sides_of_the_good_ones(tokens: Tokens) -> None:
    tokens.authorize(token(claims(iat=0, nbf=0, exp=1)), KEYS, 0)
    tokens.authorize(token(claims(iat=2**53 - 2, nbf=2**53 - 2, exp=2**53 - 1)), KEYS, 2**53 - 2)


# ---- issuer and audience (items 13 and 14)


@pytest.mark.parametrize(
    "issuer", [[ISSUER], [], "", ISSUER[:-1], ISSUER + "/", ISSUER.upper(), 1, True, {}, ISSUER + ".attacker.example"]
)
def test_an_issuer_that_is_not_exactly_ours_is_refused(
    tokens: Tokens, issuer: dict[str, Any] | int | list[str] | str
) -> None:
    refused(tokens, token(claims(iss=issuer)))


@pytest.mark.parametrize(
    "audience",
    [TokenTrust.audience("roses"), [], [TokenTrust.audience("roses")], IRIS[:-1], IRIS + "s", IRIS.upper(), "iris", ""],
    ids=str,
)
def test_a_token_for_another_endpoint_is_forbidden_here(tokens: Tokens, audience: list[str] | str) -> None:
    with pytest.raises(Forbidden):
        tokens.authorize(token(claims(aud=audience)), KEYS, NOW)


@pytest.mark.parametrize("audience", [1, True, {}, {IRIS: 1}, [IRIS, 1], [[IRIS]], [None]], ids=str)
def test_an_audience_that_is_no_text_is_refused(tokens: Tokens, audience: Any) -> None:
    refused(tokens, token(claims(aud=audience)))


def test_an_expired_token_for_another_endpoint_is_no_valid_token(tokens: Tokens) -> None:
    refused(tokens, token(claims(aud=TokenTrust.audience("roses"))), NOW + 10_000)


# ---- form (items 15 to 18)


GOOD_HEADER = b'{"alg":"EdDSA","kid":"ed-1"}'


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"EdDSA","kid":"ed-1","alg":"EdDSA"}',
        b'{"alg":"none","kid":"ed-1","alg":"EdDSA"}',
        b'{"alg":"EdDSA","kid":"ed-1","x":{"a":1,"a":2}}',
        b"[]",
        b'"EdDSA"',
        b"null",
        b"1",
        b"",
        b"{",
        b'{"alg":"EdDSA","kid":"ed-1"}x',
        b'{"alg":"EdDSA","kid":"ed-1","x":NaN}',
        b"\xff\xfe",
        b"\xef\xbb\xbf" + GOOD_HEADER,
        '{"alg":"EdDSA","kid":"ed-1"}'.encode("utf-16"),
    ],
)
def test_a_header_that_is_no_plain_json_object_is_refused(tokens: Tokens, header: bytes) -> None:
    refused(tokens, raw_token(header, json.dumps(claims()).encode()))


@pytest.mark.parametrize("kind", [b"[]", b'"x"', b"null", b"17", b"true", b"", b"{} {}", b"{'a':1}"])
def test_claims_that_are_no_json_object_are_refused(tokens: Tokens, kind: bytes) -> None:
    refused(tokens, raw_token(GOOD_HEADER, kind))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat", "iss", "aud", "sub"])
def test_a_claim_that_stands_twice_is_refused(tokens: Tokens, name: str) -> None:
    value = json.dumps(claims(sub="somebody")[name])
    payload = json.dumps(claims(sub="somebody"))[:-1] + f', "{name}": {value}}}'
    refused(tokens, raw_token(GOOD_HEADER, payload.encode()))


def test_nesting_of_any_depth_is_refused(tokens: Tokens) -> None:
    for depth in [*range(1, 1000, 7), 1500, 2500]:
        nested = b"[" * depth + b"]" * depth
        header = b'{"alg":"EdDSA","kid":"ed-1","x":%b}' % nested
        made = raw_token(header, json.dumps(claims()).encode(), sign=OTHER_ED.sign)
        refused(tokens, made)
        refused(tokens, raw_token(GOOD_HEADER, b'{"x":%b}' % nested, sign=OTHER_ED.sign))


def test_deep_nesting_in_a_signed_token_is_answered_one_way_or_the_other(tokens: Tokens) -> None:
    for depth in range(900, 1000):
        nested = b"[" * depth + b"]" * depth
        payload = json.dumps(claims())[:-1].encode() + b',"x":%b}' % nested
        try:
            tokens.authorize(raw_token(GOOD_HEADER, payload), KEYS, NOW)
        except Unauthorized:
            continue


def test_an_encrypted_token_of_five_parts_is_refused(tokens: Tokens) -> None:
    refused(tokens, b".".join([b64(b'{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa-1"}')] + [b64(b"x" * 30)] * 4))
    refused(tokens, token() + b".AA.AA")


def aliases_of(part: bytes) -> list[bytes]:
    """Other spellings that a lenient base64 decoder takes for the same bytes."""
    spare_bits = {2: 4, 3: 2}.get(len(part) % 4, 0)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(part[-1])
    others = [part[:-1] + alphabet[last ^ bits : (last ^ bits) + 1] for bits in range(1, 1 << spare_bits)]
    padded = [part + b"=" * (-len(part) % 4)] if len(part) % 4 else []
    spaced = [part + b" ", b" " + part, part[:2] + b"\n" + part[2:], part[:2] + b"!" + part[2:]]
    return others + padded + spaced + [part.replace(b"-", b"+").replace(b"_", b"/")] * (b"-" in part or b"_" in part)


@pytest.mark.parametrize("position", [0, 1, 2], ids=["header", "claims", "signature"])
def test_only_one_spelling_of_a_part_is_taken(tokens: Tokens, position: int) -> None:
    # Three lengths of each part, so that every number of spare bits occurs; signatures over the aliased spelling too.
    for filling in ("", "x", "xx"):
        made = token(claims(jti=filling), typ="JWT" + filling)
        parts = made.split(b".")
        tokens.authorize(made, KEYS, NOW)
        for alias in aliases_of(parts[position]):
            changed = [*parts[:position], alias, *parts[position + 1 :]]
            refused(tokens, b".".join(changed))
            if position < 2:
                signed = b".".join(changed[:2])
                refused(tokens, signed + b"." + b64(by_ed(signed)))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_part_that_is_empty_or_of_impossible_length_is_refused(tokens: Tokens, position: int) -> None:
    for odd in (b"", b"A", b"AAAAA"):
        parts = token().split(b".")
        parts[position] = odd
        refused(tokens, b".".join(parts))


# ---- the cache


def test_a_remembered_token_is_still_checked_for_its_dates_and_its_audience(tokens: Tokens) -> None:
    made = token()
    tokens.authorize(made, KEYS, NOW)
    refused(tokens, made, NOW - 61)
    with pytest.raises(Forbidden):
        tokens.authorize(made, KeyDigests("roses", (), LIFE), NOW)
    tokens.authorize(made, KEYS, NOW)
    refused(tokens, made, NOW + 3600 + 61)


def test_a_token_that_has_expired_stays_expired_when_the_clock_is_set_back(tokens: Tokens) -> None:
    made = token()
    tokens.authorize(made, KEYS, NOW)
    refused(tokens, made, NOW + 3600 + 61)
    refused(tokens, made, NOW)


def test_a_signature_is_checked_once_per_token(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    made = token()
    tokens.authorize(made, KEYS, NOW)
    monkeypatch.setattr(jwt, "get_algorithm_by_name", pytest.fail)
    tokens.authorize(made, KEYS, NOW + 1)


def test_a_refused_token_is_not_remembered_as_good(tokens: Tokens) -> None:
    made = token(sign=OTHER_ED.sign)
    refused(tokens, made)
    refused(tokens, made)


def test_no_token_of_a_key_that_is_no_longer_trusted_opens_anything() -> None:
    table, made = Table(), token()
    table.set_trust(TRUST)
    table.tokens.authorize(made, KEYS, NOW)
    table.set_trust(TokenTrust(ISSUER, TRUST.keys[1:]))
    refused(table.tokens, made)
    table.set_trust(TokenTrust(ISSUER, (TokenKey("ed-1", "EdDSA", pem(OTHER_ED)),)))
    refused(table.tokens, made)


def test_remembered_tokens_are_bounded(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "CACHED_TOKENS", 8)
    for number in range(20):
        tokens.authorize(token(claims(jti=str(number))), KEYS, NOW)
        assert len(tokens._checked) <= 8
    assert CACHED_TOKENS >= 1000


# ---- keys of issuers (item 22)


def test_a_key_that_is_weak_or_not_of_its_algorithm_is_not_trusted() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    wrong = [
        ("RS256", weak),
        ("RS256", ED),
        ("EdDSA", RSA),
        ("EdDSA", ed448.Ed448PrivateKey.generate()),
        ("ES256", ec.generate_private_key(ec.SECP256R1())),
        ("RS256", ec.generate_private_key(ec.SECP256R1())),
        ("HS256", RSA),
        ("none", RSA),
    ]
    for algorithm, private in wrong:
        table = Table()
        table.set_trust(TRUST)
        generation = table.generation
        with pytest.raises(ValueError, match="not a usable"):
            table.set_trust(TokenTrust(ISSUER, (TokenKey("k", algorithm, pem(private)),)))
        assert table.generation == generation
        table.tokens.authorize(token(), KEYS, NOW)  # formerly trusted certificates still are


def test_a_secret_or_garbage_is_no_public_key() -> None:
    for text in ("", "secret", pem(ED).replace("MC", "XX")):
        with pytest.raises(ValueError):
            Tokens(TokenTrust(ISSUER, (TokenKey("k", "EdDSA", text),)))


# ---- the Authorization field (items 16, 19, 21)


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_the_scheme_may_be_written_in_either_case(scheme: bytes) -> None:
    assert credentials.presented((scheme + b" abc",)) == b"abc"
    assert credentials.presented((scheme + b"   abc",)) == b"abc"


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"abc",),
        (b"Bearerabc",),
        (b"Basic abc",),
        (b"Bearer\tabc",),
        (b"Bearer abc def",),
        (b"Bearer abc, Bearer abc",),
        (b" Bearer abc",),
        (b"Bearer a\xffc",),
        (b"Bearer abc\x00",),
        (b"Bearer abc\n",),
        (b"Bearer abc", b"Bearer abc"),
        (b"Bearer abc", b""),
        (b"Bearer " + b"a" * CREDENTIAL_MAX_BYTES,),
        (b"Bearer " + b"a" * 1_000_000,),
    ],
    ids=lambda fields: repr(fields)[:40],
)
def test_anything_but_one_field_with_one_credential_is_refused(fields: Any) -> None:
    with pytest.raises(Unauthorized):
        credentials.presented(fields)


def test_a_token_of_more_than_8_kb_is_refused_before_it_is_looked_at() -> None:
    made = token(claims(jti="x" * 7000))
    assert len(made) > CREDENTIAL_MAX_BYTES
    with pytest.raises(Unauthorized):
        authorize(Auth.TOKEN, KEYS, (b"Bearer " + made,), Tokens(TRUST), NOW)


# ---- keys (items 28 and 29)


def with_key(key: bytes) -> float:
    return authorize(Auth.KEY, KEYS, (b"Bearer " + key,), NONE, NOW)


def test_both_keys_open_the_endpoint_for_ever() -> None:
    assert with_key(PRIMARY) == with_key(SECONDARY) == math.inf


@pytest.mark.parametrize(
    "key",
    [
        PRIMARY[:-1],
        PRIMARY + b"a",
        PRIMARY[1:],
        PRIMARY.upper(),
        PRIMARY.lower(),
        PRIMARY.swapcase(),
        PRIMARY + SECONDARY,
        DIGESTS[0].hex().encode(),
        base64.b64encode(DIGESTS[0]),
        b64(PRIMARY),
        b'"' + PRIMARY + b'"',
    ],
)
def test_a_near_miss_of_a_key_opens_nothing(key: bytes) -> None:
    with pytest.raises(Unauthorized):
        with_key(key)


def test_an_endpoint_without_keys_is_closed() -> None:
    for key in (b"x", b"None", hashlib.sha256(b"").hexdigest().encode()):
        with pytest.raises(Unauthorized):
            authorize(Auth.KEY, KeyDigests("iris", ()), (b"Bearer " + key,), NONE, NOW)


def test_every_digest_is_compared_in_constant_time_for_either_key(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    constant_time = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return constant_time(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for key, opened in ((PRIMARY, True), (SECONDARY, True), (b"neither", False)):
        compared.clear()
        assert opens(key, DIGESTS) is opened
        assert compared == [(hashlib.sha256(key).digest(), digest) for digest in DIGESTS]
        assert {len(side) for pair in compared for side in pair} == {32}


# ---- credentials required by endpoints


def test_an_endpoint_without_auth_asks_for_nothing() -> None:
    assert authorize(Auth.NONE, KEYS, (), NONE, NOW) == math.inf
    assert authorize(Auth.NONE, KEYS, (b"Basic x", b"y"), NONE, NOW) == math.inf


def test_a_token_does_not_open_an_endpoint_with_keys_nor_a_key_one_with_tokens() -> None:
    trusted = Tokens(TRUST)
    with pytest.raises(Unauthorized):
        authorize(Auth.KEY, KEYS, (b"Bearer " + token(),), trusted, NOW)
    with pytest.raises(Unauthorized):
        authorize(Auth.TOKEN, KEYS, (b"Bearer " + PRIMARY,), trusted, NOW)
    assert authorize(Auth.TOKEN, KEYS, (b"Bearer " + token(),), trusted, NOW) == NOW + 3600 + CLOCK_SKEW_S


def test_a_refusal_has_the_scheme_and_not_the_fault() -> None:
    texts = set()
    for presented in (b"", b"Bearer x", b"Bearer " + token(alg="none"), b"Bearer " + token(claims(exp=1, iat=0))):
        with pytest.raises(Unauthorized) as refusal:
            authorize(Auth.TOKEN, KEYS, (presented,), Tokens(TRUST), NOW)
        texts.add(str(refusal.value))
        assert refusal.value.status == 401 and refusal.value.headers[0][0].lower() == b"www-authenticate"
    assert len(texts) == 1
