"""Tokens for endpoints with token auth: signing keys, their rotation, and the tokens themselves.

The only module of the control plane that imports `jwt`. Wall-clock time is the argument `now`, in unix seconds.

Life of a token: issued at `iat`; the client should fetch the next one after `refreshAfter` = iat + 1 h, and the token
is accepted for 12 h after that (azureml-fe: still accepted up to 12 h after the refresh time), so exp = iat + 13 h.

Life of a signing key: published to the routers, signs from `signs_from` (a few seconds later, so that every router can
verify its first token), superseded by the next key after 24 h, and trusted until its last token has expired.
"""

import base64
import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from serving.credentials import INCARNATION, TokenKey, TokenTrust

REFRESH_AFTER_S = 3600
ACCEPTED_AFTER_REFRESH_S = 12 * 3600
LIFETIME_S = REFRESH_AFTER_S + ACCEPTED_AFTER_REFRESH_S
ROTATE_EVERY_S = 24 * 3600.0
PUBLISH_LEAD_S = 5.0
"""Seconds between the publication of a key and its first signature."""
CLOCK_SLACK_S = 60.0
"""A superseded key outlives its last token by this, for routers with a slow clock."""

_RSA_BITS = 2048


class TokenAlgorithm(StrEnum):
    """Signature algorithm of tokens; the values are JWA names."""

    EDDSA = "EdDSA"
    RS256 = "RS256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair. The private half never leaves the store and this process."""

    kid: str
    algorithm: TokenAlgorithm
    private_pem: str = field(repr=False)
    public_pem: str
    created_at: float
    signs_from: float


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, the time to replace it and its expiry, in unix seconds."""

    access_token: str = field(repr=False)
    refresh_after: int
    expires_on: int


@dataclass(frozen=True, slots=True)
class Keyring:
    """The signing keys of this installation, oldest first."""

    issuer: str
    keys: tuple[SigningKey, ...]

    def trust(self) -> TokenTrust:
        """The public keys with which routers verify tokens."""
        return TokenTrust(self.issuer, tuple(TokenKey(k.kid, k.algorithm.value, k.public_pem) for k in self.keys))

    def signer(self, now: float) -> SigningKey:
        """The newest key that may already sign; the oldest if the clock was set back before all of them."""
        return next((key for key in reversed(self.keys) if key.signs_from <= now), self.keys[0])

    def rotation_due(self, now: float, algorithm: TokenAlgorithm, every_s: float = ROTATE_EVERY_S) -> bool:
        """True if the newest key is too old or of another algorithm.

        now: unix seconds.
        algorithm: of new keys.
        every_s: rotation period, default 24 h.
        """
        newest = self.keys[-1]
        return newest.algorithm is not algorithm or now >= newest.created_at + every_s

    def with_key(self, key: SigningKey, now: float) -> "Keyring":
        """The ring with `key` as its newest; it signs after PUBLISH_LEAD_S."""
        return replace(self, keys=(*self.keys, replace(key, signs_from=now + PUBLISH_LEAD_S)))

    def without_expired(self, now: float) -> "Keyring":
        """The ring without keys of which the last token, signed just before the successor's first, has expired."""
        kept = tuple(
            key
            for key, successor in zip(self.keys, self.keys[1:], strict=False)
            if now < successor.signs_from + LIFETIME_S + CLOCK_SLACK_S
        )
        return replace(self, keys=(*kept, self.keys[-1]))

    def issue(self, endpoint: str, incarnation: str, now: float, jti: str) -> IssuedToken:
        """A token valid for one incarnation of one endpoint.

        endpoint: audience and subject.
        incarnation: of the endpoint.
        now: unix seconds.
        jti: unique id of the token.
        """
        issued_at = int(now)
        key = self.signer(now)
        claims = {
            "iss": self.issuer,
            "aud": TokenTrust.audience(endpoint),
            INCARNATION: incarnation,
            "sub": endpoint,
            "iat": issued_at,
            "nbf": issued_at,
            "exp": issued_at + LIFETIME_S,
            "jti": jti,
        }
        token = jwt.encode(claims, key.private_pem, algorithm=key.algorithm.value, headers={"kid": key.kid})
        return IssuedToken(token, issued_at + REFRESH_AFTER_S, issued_at + LIFETIME_S)


def new_keyring(instance: str, algorithm: TokenAlgorithm, now: float) -> Keyring:
    """A ring with one key that signs at once, since no router holds an older ring.

    instance: unique name of this installation.
    algorithm: of the key.
    now: unix seconds.
    """
    return Keyring(f"scorefront/{instance}", (new_signing_key(algorithm, now),))


def new_signing_key(algorithm: TokenAlgorithm, now: float) -> SigningKey:
    """A new key pair from the system's entropy (the libraries accept no other for RSA). `now`: unix seconds."""
    private = (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm is TokenAlgorithm.EDDSA
        else rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    )
    private_pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # The id is a digest of the public half: two keys can never share one.
    kid = base64.urlsafe_b64encode(hashlib.sha256(public_pem).digest()[:12]).decode()
    return SigningKey(kid, algorithm, private_pem.decode(), public_pem.decode(), now, now)
