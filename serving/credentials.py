"""Material for checking credentials in a router: digests of keys and public keys of token issuers, never a secret."""

from dataclasses import dataclass

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
