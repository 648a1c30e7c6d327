"""What a router needs to check a credential: digests of keys and public keys of token issuers, never a secret."""

from dataclasses import dataclass

INCARNATION = "inc"
"""Claim of a scorefront token: the incarnation of the endpoint it was issued for. It changes when the endpoint is
deleted and declared again, and when its tokens are revoked."""


@dataclass(frozen=True, slots=True)
class KeyDigests:
    """What opens one endpoint: SHA-256 digests (32 bytes each) of its keys, primary first, and its incarnation."""

    endpoint: str
    digests: tuple[bytes, ...]
    incarnation: str = ""
    """Value of the claim INCARNATION in every valid token for this endpoint; "": no token is valid. Not a secret."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One public key that tokens may be signed with, and the only algorithm it may be used for."""

    kid: str
    algorithm: str
    """`EdDSA` or `RS256`."""
    public_pem: str


@dataclass(frozen=True, slots=True)
class TokenTrust:
    """Whose tokens are accepted. `audience(endpoint)` is what a token for that endpoint must carry in `aud`."""

    issuer: str
    keys: tuple[TokenKey, ...] = ()

    @staticmethod
    def audience(endpoint: str) -> str:
        """The `aud` of a token for this endpoint."""
        return f"urn:scorefront:endpoint:{endpoint}"
