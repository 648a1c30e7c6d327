"""Public keys of foreign token issuers, and the times at which they are to be fetched. Pure."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import jwt

from serving import strict_json

REFRESH_S = 300.0
"""Time between two fetches of a key set."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0
UNKNOWN_KEY_PAUSE_S = 30.0
"""Shortest time between two fetches for tokens with an unknown key id."""
MAX_KEYS = 100

ALGORITHMS: dict[str, tuple[str, ...]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA",),
    "Ed448": ("EdDSA",),
}
"""Key type, or curve -> the signature algorithms of such keys (RFC 7518, RFC 8037)."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an issuer."""

    kid: str
    """"" without an id."""
    algorithms: tuple[str, ...]
    public: Any
    """As the algorithms of PyJWT take it."""


def read_key_set(text: str) -> tuple[IssuerKey, ...]:
    """The usable keys of a JWK set (RFC 7517). Raises ValueError if it is none, or has no usable key.

    Keys for encryption, symmetric ones, RSA keys below 2048 bits and unknown types are left out.
    """
    content = strict_json.parse(text)
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f'not a JWK set: a JSON object with at most {MAX_KEYS} "keys"')
    found = [key for one in listed if isinstance(one, dict) and (key := _read(one)) is not None]
    if not found:
        raise ValueError("no key for signatures (RSA of at least 2048 bits, EC, or OKP)")
    return tuple(found)


def _read(jwk: dict[str, Any]) -> IssuerKey | None:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    allowed = ALGORITHMS.get(str(kind if kind == "RSA" else curve), ())
    if (named := jwk.get("alg")) is not None:
        allowed = tuple(algorithm for algorithm in allowed if algorithm == named)
    operations = jwk.get("key_ops")
    for_signatures = jwk.get("use", "sig") == "sig" and (not isinstance(operations, list) or "verify" in operations)
    if not allowed or not for_signatures or "d" in jwk:
        return None
    try:
        public = jwt.PyJWK(jwk, algorithm=allowed[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if kind == "RSA" and public.key_size < 2048:
        return None
    kid = jwk.get("kid", "")
    return IssuerKey(kid if isinstance(kid, str) else "", allowed, public)


@dataclass(slots=True)
class _KeySet:
    keys: tuple[IssuerKey, ...] = ()
    due_at: float = -math.inf
    fetched_at: float = -math.inf
    failures: int = 0
    wanted: bool = False
    """True: a token had an unknown key id since the last fetch."""


class IssuerKeySets:
    """Key sets by source, the URL that they come from. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.on_due: Callable[[], None] = lambda: None
        """Called when a fetch may have become due."""
        self._sets: dict[str, _KeySet] = {}

    def declare(self, sources: Collection[str]) -> None:
        """Keep exactly these sources; new ones are due at once."""
        added = [source for source in sources if source not in self._sets]
        self._sets = {source: self._sets.get(source) or _KeySet() for source in sources}
        if added:
            self.on_due()

    def keys(self, source: str) -> tuple[IssuerKey, ...]:
        """The keys of a source, as last fetched; none before the first fetch."""
        found = self._sets.get(source)
        return found.keys if found is not None else ()

    def want(self, source: str) -> None:
        """A token names an unknown key: fetch again, but not more often than every UNKNOWN_KEY_PAUSE_S."""
        found = self._sets.get(source)
        if found is not None and not found.wanted:
            found.wanted = True
            self.on_due()

    def due(self, now: float) -> list[str]:
        """The sources to be fetched now."""
        return [source for source, one in self._sets.items() if self._due_at(one) <= now]

    def next_due(self) -> float:
        """The time of the next fetch; inf without a source."""
        return min(map(self._due_at, self._sets.values()), default=math.inf)

    def fetched(self, source: str, keys: tuple[IssuerKey, ...], now: float) -> bool:
        """A fetch has succeeded; True if the keys are others than before."""
        one = self._sets.get(source)
        if one is None:
            return False
        changed = [(key.kid, key.algorithms) for key in one.keys] != [(key.kid, key.algorithms) for key in keys] or any(
            old.public != new.public for old, new in zip(one.keys, keys, strict=True)
        )
        one.keys, one.failures, one.wanted = keys, 0, False
        one.fetched_at, one.due_at = now, now + REFRESH_S
        return changed

    def failed(self, source: str, now: float) -> None:
        """A fetch has failed: the last good keys stay, and the fetch is repeated with back-off."""
        one = self._sets.get(source)
        if one is not None:
            one.wanted = False
            one.failures += 1
            one.due_at = now + min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(one.failures - 1, 30))

    @staticmethod
    def _due_at(one: _KeySet) -> float:
        return min(one.due_at, one.fetched_at + UNKNOWN_KEY_PAUSE_S) if one.wanted else one.due_at
