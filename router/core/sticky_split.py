"""The split of an endpoint's traffic by a value of the request (`splitBy`). Pure."""

import hashlib
import math
from collections.abc import Mapping, Sequence

from router.core.header_fields import Field
from serving.endpoint import SplitBy


class StickySplit:
    """Weighted rendezvous hashing of values over versions.

    Each pair of value and version gets a number u, uniform on (0, 1) and the same in every worker and router; the
    version with the largest log(u) / share is chosen. Over many values each version gets exactly its share. When shares
    change, a value moves only to a version whose share grew or from one whose share fell, so that no more values move
    than the new shares demand.
    """

    __slots__ = ("_name", "_of_cookie", "_versions")

    def __init__(self, endpoint: str, split_by: SplitBy, shares: Mapping[bytes, float]) -> None:
        """`endpoint`: its name; splits of different endpoints are independent. `shares`: version name -> positive share
        of the traffic."""
        self._of_cookie = bool(split_by.cookie)
        # names of fields have no case, those of cookies do
        self._name = split_by.cookie.encode() if self._of_cookie else split_by.header.lower().encode()
        self._versions = [
            (name, share, hashlib.blake2b(b"%b\0%b\0" % (endpoint.encode(), name), digest_size=8))
            for name, share in shares.items()
        ]

    def value(self, fields: Sequence[Field]) -> bytes:
        """The value of a request; empty without one. `fields`: of its head, in order."""
        if not self._of_cookie:
            return b", ".join(value for name, _, value in fields if name == self._name)
        for name, _, value in fields:
            if name == b"cookie":
                for pair in value.split(b";"):
                    cookie, _, content = pair.strip(b" \t").partition(b"=")
                    if cookie == self._name:
                        return content
        return b""

    def choose(self, value: bytes) -> bytes:
        """The name of the version for a value."""
        best, chosen = -math.inf, b""
        for name, share, hashed_name in self._versions:
            digest = hashed_name.copy()
            digest.update(value)
            # the middle of its step of 2**-53: never 0 or 1
            u = ((int.from_bytes(digest.digest()) >> 11) + 0.5) * 2.0**-53
            weight = math.log(u) / share
            if weight > best:
                best, chosen = weight, name
        return chosen
