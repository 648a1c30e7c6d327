"""Checks of tokens of foreign issuers (`tokenIssuers`). Pure.

As for own tokens, RFC 8725 applies: the algorithms are those of the key, the header only chooses among them; `crit` is
refused; embedded keys and key URLs are ignored.
"""

import hashlib
import math
from collections.abc import Collection
from typing import Any

import jwt

from router.core.authorization import CACHED_TOKENS, CLOCK_SKEW_S, decoded, json_object, token_parts
from router.core.issuer_keys import IssuerKey, IssuerKeySets
from router.core.router_errors import Forbidden, Unauthorized
from serving.endpoint import ForeignIssuer

MAX_TRIED_KEYS = 4
"""Most keys tried for a token without a key id."""


class ForeignTokens:
    """Tokens of the issuers of all endpoints. A signature is verified once per token, its dates on every request."""

    def __init__(self, keys: IssuerKeySets) -> None:
        """`keys`: of the declared issuers."""
        self._keys = keys
        self._verified: dict[tuple[bytes, str], dict[str, Any]] = {}
        """(digest of the token, source of its key) -> its claims."""

    def forget(self) -> None:
        """Key sets have changed: every signature is verified again."""
        self._verified.clear()

    @staticmethod
    def issuer(token: bytes, issuers: Collection[ForeignIssuer]) -> ForeignIssuer | None:
        """The issuer that a token names, unverified; None if it is not among `issuers`, or the token is malformed."""
        try:
            named = json_object(token_parts(token)[3]).get("iss")
        except Unauthorized:
            return None
        return next((each for each in issuers if each.issuer == named), None)

    def authorize(self, token: bytes, issuer: ForeignIssuer, now_unix: float) -> float:
        """End of a token's validity in unix seconds. Raises Unauthorized, or Forbidden for a valid token without the
        audience or a claim.

        `token`: as presented. `issuer`: the one that it names. `now_unix`: unix seconds.
        """
        place = (hashlib.sha256(token).digest(), issuer.source)
        claims = self._verified.get(place)
        if claims is None:
            claims = self._verify(token, issuer)
            if len(self._verified) >= CACHED_TOKENS:
                self._verified.clear()
            self._verified[place] = claims
        if now_unix >= claims["exp"] + CLOCK_SKEW_S:
            claims["exp"] = -math.inf  # a clock set back does not revive the token
            raise Unauthorized
        if any(now_unix < claims[name] - CLOCK_SKEW_S for name in ("nbf", "iat")):
            raise Unauthorized
        if issuer.audience not in _texts(claims.get("aud")):
            raise Forbidden
        if any(value not in _texts(claims.get(name)) for name, value in issuer.claims):
            raise Forbidden
        return float(claims["exp"] + CLOCK_SKEW_S)

    def _verify(self, token: bytes, issuer: ForeignIssuer) -> dict[str, Any]:
        """The claims of a token with a valid signature; dates that are absent do not limit it."""
        parts = token_parts(token)
        header, claims = json_object(parts[2]), json_object(parts[3])
        if claims.get("iss") != issuer.issuer or "crit" in header:
            raise Unauthorized
        dates = {"exp": _date(claims.get("exp"))}
        for name in ("nbf", "iat"):
            dates[name] = _date(claims[name]) if name in claims else -math.inf
        signature = decoded(parts[4])
        for key in self._candidates(issuer.source, header):
            algorithm = jwt.get_algorithm_by_name(header["alg"])
            if algorithm.verify(parts[1], key.public, signature):
                return claims | dates
        raise Unauthorized

    def _candidates(self, source: str, header: dict[str, Any]) -> list[IssuerKey]:
        """The keys that may have signed a token with this header; an unknown id has the set fetched again."""
        algorithm, kid = header.get("alg"), header.get("kid")
        fitting = [key for key in self._keys.keys(source) if algorithm in key.algorithms]
        if kid is None:
            return fitting[:MAX_TRIED_KEYS]
        named = [key for key in fitting if key.kid == kid]
        if not any(key.kid == kid for key in self._keys.keys(source)):
            self._keys.want(source)
        return named[:MAX_TRIED_KEYS]


def _texts(claim: object) -> tuple[str, ...]:
    """The texts of a claim: one, or a list of them."""
    listed = claim if isinstance(claim, list) else [claim]
    return tuple(one for one in listed if isinstance(one, str))


def _date(value: object) -> float:
    """A NumericDate (RFC 7519). Raises Unauthorized for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise Unauthorized
    return float(value)
