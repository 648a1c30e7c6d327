"""Material for checking credentials in a router: digests of keys and public keys of token issuers, never a secret."""

import re
from dataclasses import dataclass

KEY_RULE = "must be 16 to 512 visible ASCII characters, without spaces"
"""The rule of a key that a user brings along."""
_KEY = re.compile(r"[!-~]{16,512}")

INCARNATION = "inc"
"""Claim of a scorefront token: the incarnation of the endpoint it was issued for. It changes when the endpoint is
deleted and declared again, and when its tokens are revoked."""


@dataclass(frozen=True, slots=True)
class KeyDigests:
    """Accepted keys of one endpoint: SHA-256 digests (32 bytes each), primary first, and its incarnation."""

    endpoint: str
    digests: tuple[bytes, ...]
    incarnation: str = ""
    """Value of the claim INCARNATION in every valid token for this endpoint; "": no token is valid. Not a secret."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Public key of a token issuer, and the only algorithm it may be used for."""

    kid: str
    algorithm: str
    """`EdDSA` or `RS256`."""
    public_pem: str


@dataclass(frozen=True, slots=True)
class TokenTrust:
    """Trusted token issuer. `audience(endpoint)` is the required `aud` of a token for that endpoint."""

    issuer: str
    keys: tuple[TokenKey, ...] = ()

    @staticmethod
    def audience(endpoint: str) -> str:
        """The `aud` of tokens for `endpoint`."""
        return f"urn:scorefront:endpoint:{endpoint}"


def is_key(text: str) -> bool:
    """True if `text` obeys KEY_RULE. Keys that are made here have 43 letters and digits."""
    return _KEY.fullmatch(text) is not None
