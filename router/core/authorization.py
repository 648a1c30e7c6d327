"""Authorization of scoring requests: keys by digest, own tokens by signature (foreign ones: `foreign_tokens`).

Rules for tokens: RFC 8725 (best current practice for JWT). The algorithm is a property of the key, never of the token;
`crit` is refused; `jku`, `x5u`, `x5c` and `jwk` are ignored; a claim of a wrong type means 401, not an exception.
"""

import hashlib
import hmac
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from router.core.router_errors import Forbidden, Unauthorized
from serving import strict_json
from serving.credentials import INCARNATION, KeyDigests, TokenTrust
from serving.endpoint import Auth

CREDENTIAL_MAX_BYTES = 8192
CLOCK_SKEW_S = 60.0
"""Tolerated clock difference to the issuer (Envoy's default)."""
MAX_TOKEN_LIFETIME_S = 7 * 24 * 3600.0
CACHED_TOKENS = 4096

_bearer = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")
_token = re.compile(rb"(([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]+)")
"""Groups: signing input, header, claims, signature."""


def presented(authorization: tuple[bytes, ...]) -> bytes:
    """The credential in a request's Authorization fields. Raises Unauthorized: none, two, not Bearer, or too long."""
    if len(authorization) != 1 or len(authorization[0]) > CREDENTIAL_MAX_BYTES:
        raise Unauthorized
    match = _bearer.fullmatch(authorization[0])
    if match is None:
        raise Unauthorized
    return match[1]


def opens(key: bytes, digests: tuple[bytes, ...]) -> bool:
    """True if the key has one of these SHA-256 digests. Every digest is compared, in constant time."""
    digest = hashlib.sha256(key).digest()
    opened = False
    for known in digests:
        opened |= hmac.compare_digest(digest, known)
    return opened


class Tokens:
    """Token checks for one issuer. The signature is verified once per token, its dates on every request."""

    def __init__(self, trust: TokenTrust) -> None:
        self._issuer = trust.issuer
        self._keys = {key.kid: key for key in trust.keys}
        self._public = {key.kid: _load(key.algorithm, key.public_pem) for key in trust.keys}
        # Claims by digest of a verified token. An Ed25519 check costs 130 µs, a lookup 0.5 µs.
        self._checked: dict[bytes, dict[str, Any]] = {}

    def authorize(self, token: bytes, keys: KeyDigests, now_unix: float) -> float:
        """End of the token's validity for an endpoint, in unix seconds. Raises Unauthorized or Forbidden.

        `token`: as presented. `keys`: name and incarnation of the endpoint. `now_unix`: unix seconds. A token of an
        earlier incarnation is revoked: Unauthorized (RFC 6750 section 3.1, `invalid_token`).
        """
        digest = hashlib.sha256(token).digest()
        claims = self._checked.get(digest)
        if claims is None:
            claims = self._check(token)
            if len(self._checked) >= CACHED_TOKENS:
                self._checked.clear()
            self._checked[digest] = claims
        if now_unix >= claims["exp"] + CLOCK_SKEW_S:
            claims["exp"] = 0  # a clock set back does not revive the token
            raise Unauthorized
        if now_unix < claims["nbf"] - CLOCK_SKEW_S:
            raise Unauthorized
        if claims["iat"] > now_unix + CLOCK_SKEW_S:
            raise Unauthorized
        if TokenTrust.audience(keys.endpoint) not in claims["aud"]:
            raise Forbidden
        if not keys.incarnation or claims[INCARNATION] != keys.incarnation:
            raise Unauthorized
        return float(claims["exp"] + CLOCK_SKEW_S)

    def _check(self, token: bytes) -> dict[str, Any]:
        parts = token_parts(token)
        header = json_object(parts[2])
        kid = header.get("kid")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None or header.get("alg") != key.algorithm or "crit" in header:
            raise Unauthorized
        claims = _claims(json_object(parts[3]))
        if claims["iss"] != self._issuer:
            raise Unauthorized
        # The expensive check last.
        algorithm = jwt.get_algorithm_by_name(key.algorithm)
        if not algorithm.verify(parts[1], self._public[key.kid], decoded(parts[4])):
            raise Unauthorized
        return claims


def authorize(auth: Auth, keys: KeyDigests, authorization: tuple[bytes, ...], tokens: Tokens, now_unix: float) -> float:
    """End of the authorization in unix seconds, inf for keys. Raises Unauthorized or Forbidden.

    `auth`: kind of credential required by the endpoint. `keys`: name, key digests and incarnation of the endpoint.
    `authorization`: values of the Authorization fields. `tokens`: token checks. `now_unix`: unix seconds.
    """
    if auth is Auth.NONE:
        return math.inf
    credential = presented(authorization)
    if auth is Auth.TOKEN:
        return tokens.authorize(credential, keys, now_unix)
    if not opens(credential, keys.digests):
        raise Unauthorized
    return math.inf


def _load(algorithm: str, public_pem: str) -> Any:
    """Load a public key. Raises ValueError if it is too weak or does not fit the algorithm."""
    try:
        key = load_pem_public_key(public_pem.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(f"unsupported key type: {error}") from error
    if algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey):
        return key
    if algorithm == "RS256" and isinstance(key, RSAPublicKey) and key.key_size >= 2048:
        return key
    raise ValueError(f"not a usable {algorithm} key: Ed25519 for EdDSA, RSA of at least 2048 bits for RS256")


def token_parts(token: bytes) -> re.Match[bytes]:
    """The parts of a token in the compact form. Groups: signing input, header, claims, signature. Raises
    Unauthorized."""
    parts = _token.fullmatch(token)
    if parts is None:
        raise Unauthorized
    return parts


def decoded(part: bytes) -> bytes:
    """Decode one base64url part of a token. Raises Unauthorized unless the encoding is canonical."""
    try:
        raw = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError as error:
        raise Unauthorized from error
    if urlsafe_b64encode(raw).rstrip(b"=") != part:
        raise Unauthorized
    return raw


def json_object(part: bytes) -> dict[str, Any]:
    """Decode one base64url part of a token as strict JSON, an object. Raises Unauthorized."""
    try:
        value = strict_json.parse(decoded(part).decode("utf-8"))
    except ValueError as error:
        raise Unauthorized from error
    if not isinstance(value, dict):
        raise Unauthorized
    return value


def _claims(claims: dict[str, Any]) -> dict[str, Any]:
    """The checked claims, each of its RFC 7519 type; `exp` and `iat` are required. Raises Unauthorized."""
    expires, issued = _date(claims.get("exp")), _date(claims.get("iat"))
    not_before = _date(claims.get("nbf", issued))
    if expires - issued > MAX_TOKEN_LIFETIME_S:
        raise Unauthorized
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise Unauthorized
    issuer, incarnation = claims.get("iss"), claims.get(INCARNATION, "")
    if not isinstance(issuer, str) or not isinstance(incarnation, str):
        raise Unauthorized
    return {
        "exp": expires,
        "iat": issued,
        "nbf": not_before,
        "aud": frozenset(audiences),
        "iss": issuer,
        INCARNATION: incarnation,
    }


def _date(value: Any) -> int:
    """A NumericDate in whole seconds. Raises Unauthorized for a float, string, bool or a number out of range."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise Unauthorized
    return value
