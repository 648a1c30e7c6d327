"""Rules between the fields of an endpoint that clients meet: credentials, origins, the split by a value."""

import re
from collections.abc import Iterator

from serving.document_node import Node
from serving.endpoint import KEYS_URL_PATTERN
from serving.faults import Fault, written

ONE_AUTH_RULE = "authEnabled and tokenAuthEnabled exclude each other; one may be true"
LONE_WILDCARD_RULE = 'must have "*" alone, or none'
ISSUER_AUTH_RULE = "goes only with tokenAuthEnabled: true"
ISSUER_URL_RULE = "is required, unless issuer is a URL with https:// (or http:// on loopback) that tells its keys"
ONE_SPLIT_RULE = "must have exactly one of header, cookie"


def one_auth(spec: Node) -> Iterator[Fault]:
    """Keys and tokens exclude each other."""
    if spec.get("authEnabled") is True and spec.get("tokenAuthEnabled") is True:
        yield spec.fault("tokenAuthEnabled", ONE_AUTH_RULE)


def lone_wildcards(spec: Node) -> Iterator[Fault]:
    """ "*" stands alone in its list."""
    cors = spec.node("cors")
    for field in ("allowOrigins", "allowHeaders"):
        if isinstance(listed := cors.sound(field), list) and "*" in listed and len(listed) > 1:
            yield cors.fault(field, LONE_WILDCARD_RULE)


def token_issuers(spec: Node) -> Iterator[Fault]:
    """Issuers are unique, go with token auth and tell their keys."""
    issuers = spec.nodes("tokenIssuers")
    if issuers and spec.sound("tokenAuthEnabled", False) is not True:
        yield spec.fault("tokenIssuers", ISSUER_AUTH_RULE)
    seen: dict[str, str] = {}
    for each in issuers:
        name = each.sound("issuer")
        if not isinstance(name, str):
            continue
        if not each.has("jwksUri") and not re.match(KEYS_URL_PATTERN, f"{name}/"):
            yield each.fault("jwksUri", ISSUER_URL_RULE)
        if (first := seen.setdefault(name, written(each.path))) != written(each.path):
            yield each.fault("issuer", f"must be unique in the list; {first} names it")


def one_split_value(spec: Node) -> Iterator[Fault]:
    """The split is by one value."""
    if not spec.has("splitBy") or not isinstance(spec.get("splitBy"), dict):
        return
    split = spec.node("splitBy")
    given = [field for field in ("header", "cookie") if split.has(field)]
    if len(given) != 1:
        yield split.at(", ".join(given) or None, ONE_SPLIT_RULE)
