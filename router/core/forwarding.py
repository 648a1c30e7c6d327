"""Forwarded request data for replicas (X-Forwarded-*), and references of replicas to their own origin. Pure.

Paths on a replica are below a prefix at the router, `/api/v1/service/NAME`. A proxy in front of the router may have
removed a prefix of its own and may have another host or scheme: a trusted proxy is believed.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from router.core.header_fields import Field


class PeerTrust(Enum):
    """Trust in the X-Forwarded-* fields that the peer of a client connection sends."""

    UNKNOWN = "unknown"
    """No proxy is named as trusted: X-Forwarded-For is kept as a trail, the other fields are replaced."""
    TRUSTED = "trusted"
    """A trusted proxy: all are kept."""
    UNTRUSTED = "untrusted"
    """Another peer where trusted proxies are named: all are replaced."""


class Peer(NamedTuple):
    """The peer of a client connection."""

    address: bytes
    proto: bytes
    """http or https."""
    trust: PeerTrust = PeerTrust.UNKNOWN

    def chain(self, trail: Sequence[bytes]) -> bytes:
        """X-Forwarded-For for a replica: addresses, this peer last. `trail`: values that the peer sent."""
        if not trail or self.trust is PeerTrust.UNTRUSTED:
            return self.address
        return b", ".join([*trail, self.address])


class Forwarded(NamedTuple):
    """Values of the X-Forwarded-* fields for a replica, without X-Forwarded-For (`Peer.chain`)."""

    proto: bytes
    host: bytes
    outer_prefix: bytes
    """Prefix removed by a trusted proxy; usually empty."""


_proto = re.compile(rb"https?", re.IGNORECASE)
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_prefix = re.compile(rb"((?:/[A-Za-z0-9._~!$&'()*+=:@%-]+)*)/?")
_absolute = re.compile(rb"(?:(https?):)?//([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_refresh = re.compile(rb"(\s*[0-9.]+\s*[;,]?\s*(?:url\s*=\s*)?['\"]?)([^'\"]*)(.*)", re.IGNORECASE | re.DOTALL)
REFERENCES = frozenset({b"location", b"content-location", b"refresh"})
"""Response fields that hold a URL."""


def forwarded(fields: list[Field], host: bytes, peer: Peer) -> Forwarded:
    """The values for a request. `fields`: of the request. `host`: that it names. `peer`: of the connection."""
    if peer.trust is not PeerTrust.TRUSTED:
        return Forwarded(peer.proto, host, b"")
    claims = {name: value.partition(b",")[0].strip() for name, _, value in reversed(fields)}
    proto, named = claims.get(b"x-forwarded-proto", b""), claims.get(b"x-forwarded-host", b"")
    prefix = _prefix.fullmatch(claims.get(b"x-forwarded-prefix", b""))
    return Forwarded(
        proto.lower() if _proto.fullmatch(proto) else peer.proto,
        named if _host.fullmatch(named) else host,
        prefix[1] if prefix else b"",
    )


class ReplicaOrigin(NamedTuple):
    """The origin of a replica under the names that it may know, and its place at the router."""

    prefix: bytes
    """Path of the endpoint at the router: /api/v1/service/NAME, with /versions/V if pinned."""
    own_prefixes: tuple[bytes, ...]
    """All prefixes of the endpoint: a path below one of them needs no other."""
    outer_prefix: bytes
    """See Forwarded."""
    proto: bytes
    """Scheme by which the client came."""
    hosts: frozenset[bytes]
    """Authorities of the client's request, as sent to the replica."""
    address: bytes
    """`host:port` of the replica itself; empty if unknown."""

    def rewritten(self, name: bytes, value: bytes) -> bytes:
        """A response field with its reference as the client must see it. `name`: lower case. `value`: as received."""
        if name not in REFERENCES:
            return value
        if name != b"refresh":
            return self.reference(value)
        found = _refresh.fullmatch(value)
        return found[1] + self.reference(found[2]) + found[3] if found else value

    def reference(self, value: bytes) -> bytes:
        """A URL reference: path-absolute or on the replica's own origin with the prefix, any other unchanged."""
        found = _absolute.fullmatch(value)
        if found is None:
            return self._with_prefix(value) if value.startswith(b"/") else value
        scheme, authority, rest = (found[1] or self.proto).lower(), found[2].lower(), found[3]
        path = rest if rest.startswith(b"/") else b"/" + rest
        if self.address and (scheme, authority) == (b"http", self.address.lower()):
            return self._with_prefix(path)
        if _plain(authority, scheme) not in {_plain(host.lower(), self.proto) for host in self.hosts}:
            return value
        placed = self._with_prefix(path)
        if placed == rest and scheme == self.proto:
            return value
        # A redirect from http to https keeps its scheme; one to http, behind TLS, is meant as the same scheme.
        return b"https://" + found[2] + placed if (scheme, self.proto) == (b"https", b"http") else placed

    def _with_prefix(self, path: bytes) -> bytes:
        inner = path
        if self.outer_prefix and path.startswith(self.outer_prefix + b"/"):
            inner = path[len(self.outer_prefix) :]
        if any(inner.startswith(own) and inner[len(own) : len(own) + 1] in _ENDS for own in self.own_prefixes):
            return self.outer_prefix + inner
        return self.outer_prefix + self.prefix + path


_ENDS = (b"", b"/", b"?", b"#")


def _plain(authority: bytes, scheme: bytes) -> bytes:
    return authority.removesuffix(b":443" if scheme == b"https" else b":80")
