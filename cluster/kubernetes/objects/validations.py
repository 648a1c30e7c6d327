"""The rules over several fields, in CEL for the API server: the counterpart of `serving.rules`.

Null is the same as absent: `has()` is false for a nullable field with null. A rule is checked only if every field is
valid by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.access_rules import (
    ISSUER_AUTH_RULE,
    ISSUER_URL_RULE,
    LONE_WILDCARD_RULE,
    ONE_AUTH_RULE,
    ONE_SPLIT_RULE,
)
from serving.endpoint import KEYS_URL_PATTERN
from serving.models import SCALER_DEFAULTS, DeclaredProbe, DeclaredResources
from serving.reserved_variables import BY_KIND
from serving.rules import (
    COMPANIONS,
    KINDS,
    MAPPINGS,
    NAMED_TWICE,
    NEEDS_IMAGE,
    NO_NUMBER_RULE,
    NUMBER_RULE,
    ONE_KIND_RULE,
    ONE_MACHINE_ONLY,
    OWN_SECRETS,
    OWN_SECRETS_RULE,
    OWN_SETTINGS,
    OWN_WORKLOAD_RULE,
    RESERVED_KEYS,
    RESERVED_RULE,
    RESERVED_VERSIONS,
    RESERVED_WORKLOADS,
    TOLERATED_KEY,
    TOLERATED_TIME,
    TOLERATED_VALUE,
    TRAFFIC_RULE,
)

Place = tuple[str, ...]
"""Path of a rule in the schema: field names, `[]` for the items of a list, `{}` for the values of a mapping."""

OBJECT: Place = ()
SPEC: Place = ("spec",)
VERSION: Place = (*SPEC, "versions", "[]")
REPLICA: Place = (*VERSION, "replica")
WORKLOAD: Place = (*REPLICA, "workloadRef")
COMMAND: Place = (*REPLICA, "command")
ISSUER: Place = (*SPEC, "tokenIssuers", "[]")
SPLIT_BY: Place = (*SPEC, "splitBy")
STATIC: Place = (*REPLICA, "static")
ADDRESS: Place = (*STATIC, "[]")
HOST_HEADER: Place = (*REPLICA, "hostHeader")
CORS_LISTS: tuple[Place, ...] = ((*SPEC, "cors", "allowOrigins"), (*SPEC, "cors", "allowHeaders"))
SECRET_NAME: Place = (*REPLICA, "secretEnv", "{}", "secret")
PULL_SECRET: Place = (*REPLICA, "imagePullSecrets", "[]", "name")
TOLERATION: Place = (*REPLICA, "tolerations", "[]")
LABELS: Place = (*REPLICA, "podTemplate", "metadata", "labels")
ANNOTATIONS: Place = (*REPLICA, "podTemplate", "metadata", "annotations")
SCALER: Place = (*VERSION, "autoScaler")
RESOURCES: Place = (*VERSION, "containerResourceRequirements")


@dataclass(frozen=True, slots=True)
class Validation:
    """One rule, in CEL."""

    rule: str
    message: str
    field: str = ""
    """The field in the message, relative to the path of the rule; "" for that path itself."""


def _at_most_one(condition: str, words: str) -> Validation:
    return Validation(f"self.versions.filter(version, {condition}).size() <= 1", words, ".versions")


_RESERVED = tuple(
    Validation(
        f"self.metadata.name != '{endpoint}' || !self.spec.versions.exists(version, version.name in {list(versions)})",
        f"an endpoint named {endpoint} must not have a version {' or '.join(versions)}:"
        f" {' and '.join(f'{endpoint}-{version}' for version in versions)} are Deployments of scorefront",
        ".spec.versions",
    )
    for endpoint, versions in RESERVED_VERSIONS.items()
)
_FOREIGN_WORKLOAD = Validation(f"!(self.name in {list(RESERVED_WORKLOADS)})", OWN_WORKLOAD_RULE, ".name")

_OF_SPEC = (
    Validation(
        "self.versions.all(version, !has(version.replica.workloadRef) || self.versions.filter(other,"
        " has(other.replica.workloadRef) && other.replica.workloadRef.kind == version.replica.workloadRef.kind"
        " && other.replica.workloadRef.name == version.replica.workloadRef.name).size() == 1)",
        "workloadRef must be unique in the endpoint: a workload has one number of replicas",
        ".versions",
    ),
    Validation(
        # 33.3 + 33.3 + 33.4 may come out a hair above 100 in binary.
        "self.versions.map(version, has(version.trafficPercentile) ? version.trafficPercentile : 0.0).sum()"
        " <= 100.000000001",
        TRAFFIC_RULE,
        ".versions",
    ),
    _at_most_one("has(version.isDefault) && version.isDefault", "at most one version may be the default"),
    _at_most_one("has(version.type) && version.type == 'Control'", "at most one version may be the Control"),
    Validation(
        "!(has(self.authEnabled) && self.authEnabled && has(self.tokenAuthEnabled) && self.tokenAuthEnabled)",
        ONE_AUTH_RULE,
        ".tokenAuthEnabled",
    ),
    Validation(
        "!has(self.tokenIssuers) || self.tokenIssuers.size() == 0"
        " || has(self.tokenAuthEnabled) && self.tokenAuthEnabled",
        ISSUER_AUTH_RULE,
        ".tokenIssuers",
    ),
    Validation(
        "!has(self.tokenIssuers) || self.tokenIssuers.all(one,"
        " self.tokenIssuers.filter(other, other.issuer == one.issuer).size() == 1)",
        "issuer must be unique in the list",
        ".tokenIssuers",
    ),
)

_ONE_KIND = Validation(
    f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].filter(given, given).size() == 1",
    ONE_KIND_RULE,
)


def _companion(field: str, partners: frozenset[str]) -> Validation:
    kinds = [kind for kind in KINDS if kind in partners]
    empty = f" || self.{field}.size() == 0" if field in MAPPINGS else ""
    goes = " || ".join(f"has(self.{kind})" for kind in kinds)
    return Validation(f"!has(self.{field}){empty} || {goes}", f"goes only with {', '.join(kinds)}", f".{field}")


_NO_RESERVED_VARIABLE = tuple(
    Validation(
        f"!has(self.{kind}) || !has(self.env) || {sorted(names)}.all(name, !(name in self.env))",
        f"env must leave out the variables that scorefront sets: {', '.join(sorted(names))}",
        ".env",
    )
    for kind, names in BY_KIND.items()
)
_PROGRAM = Validation("self[0] != ''", "the first text must be the program to run, not empty")

_EXISTS = "has(self.operator) && self.operator == 'Exists'"
_OF_TOLERATION = (
    Validation(f"!({_EXISTS}) || !has(self.value)", TOLERATED_VALUE, ".value"),
    Validation(f"{_EXISTS} || has(self.key)", f"key {TOLERATED_KEY}"),
    Validation(
        "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
        TOLERATED_TIME,
        ".tolerationSeconds",
    ),
)

_NOT_RESERVED = Validation(f"self.all(key, !key.matches('(?i){RESERVED_KEYS}'))", f"a key {RESERVED_RULE}")
_NOT_OWN = Validation(f"!self.startsWith('{OWN_SECRETS}')", OWN_SECRETS_RULE)
_NOT_TWICE = Validation(
    "!has(self.env) || !has(self.secretEnv) || self.secretEnv.all(name, !(name in self.env))",
    NAMED_TWICE,
    ".secretEnv",
)

# x-kubernetes-list-type: set finds exact duplicates; this finds those that differ in case from an all lower case one.
# Comparing all pairs would exceed the API server's cost limit for 1000 addresses.
_UNIQUE_ADDRESSES = Validation(
    "self.all(address, address == address.lowerAscii() || !(address.lowerAscii() in self))",
    "addresses must be unique in the list; upper and lower case are the same",
)
_LONE_WILDCARD = Validation("!('*' in self) || self.size() == 1", LONE_WILDCARD_RULE)
_ISSUER_URL = Validation(
    # the backslashes are doubled for CEL's strings
    f"has(self.jwksUri) || (self.issuer + '/').matches('{KEYS_URL_PATTERN}')".replace("\\", "\\\\"),
    f"jwksUri {ISSUER_URL_RULE}",
)
_ONE_SPLIT_VALUE = Validation("has(self.header) != has(self.cookie)", ONE_SPLIT_RULE)
LONGEST_ADDRESS = 253 + len(":65535")
_LABEL = r"\\w([\\w-]{0,61}\\w)?"
# Four rules with one meaning: the API server limits the cost of each.
_VALID_ADDRESS = tuple(
    Validation(rule, 'must be "host:port": IPv4, [IPv6] or DNS name, and a port from 1 to 65535')
    for rule in (
        rf"self.matches('^\\[|^({_LABEL}\\.)*{_LABEL}:\\d+$')",
        r"self.matches(':[1-9]\\d{0,4}$') && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535",
        # A host of digits and dots alone is meant to be IPv4.
        "!self.matches('^[0-9.]+:') || isIP(self.substring(0, self.lastIndexOf(':')))",
        # isIP() knows no IPv4-mapped IPv6 address.
        r"!self.startsWith('[') || self.matches('^\\[[0-9A-Fa-f:.]+\\]:\\d+$')"
        " && (self.lowerAscii().startsWith('[::ffff:') || isIP(self.substring(1, self.indexOf(']'))))",
    )
)
_WITH_PORT = r"(self.matches(':\\d+$') ? self : self + ':80')"
_VALID_HOST = tuple(
    Validation(
        validation.rule.replace("self", _WITH_PORT),
        'must be "host" or "host:port": IPv4, [IPv6] or DNS name, and a port from 1 to 65535',
    )
    for validation in _VALID_ADDRESS
)

_SCALED = tuple(SCALER_DEFAULTS)


def _given(fields: tuple[str, ...], of: str) -> str:
    return " || ".join(f"has({of}.{field})" for field in fields)


_ENABLED = "has(self.autoScaler) && has(self.autoScaler.autoscaleEnabled)"
_OF_VERSION = (
    Validation(
        f"!has(self.replica.static) || !has(self.numReplicas) && !(has(self.autoScaler)"
        f" && ({_given(('autoscaleEnabled', *_SCALED), 'self.autoScaler')}))",
        "numReplicas and the fields of autoScaler must be left out: static replicas run elsewhere and are never scaled;"
        " there are as many as addresses",
    ),
    Validation(
        f"has(self.replica.static) || !({_ENABLED} && self.autoScaler.autoscaleEnabled) || !has(self.numReplicas)",
        NO_NUMBER_RULE,
        ".numReplicas",
    ),
    Validation(
        f"has(self.replica.static) || !({_ENABLED} && !self.autoScaler.autoscaleEnabled) || has(self.numReplicas)",
        f"numReplicas {NUMBER_RULE}",
    ),
    Validation(
        f"has(self.replica.static) || !has(self.autoScaler) || !({_given(_SCALED, 'self.autoScaler')})"
        " || (has(self.autoScaler.autoscaleEnabled) ? self.autoScaler.autoscaleEnabled : !has(self.numReplicas))",
        f"{', '.join(_SCALED)} must be left out while autoscaling is off (numReplicas is given, or autoscaleEnabled is"
        " false)",
        ".autoScaler",
    ),
)


def _or_default(field: str, default: object) -> str:
    return f"(has(self.{field}) ? self.{field} : {default})"


def _least_below_most() -> Validation:
    least, most = (_or_default(name, SCALER_DEFAULTS[name]) for name in ("minReplicas", "maxReplicas"))
    default = SCALER_DEFAULTS["maxReplicas"]
    words = f"minReplicas must be at most maxReplicas, which is {default} where it is left out"
    return Validation(f"{least} <= {most}", words)


def _request_below_limit(request: str, limit: str) -> Validation:
    default = DeclaredResources.model_fields[request].default
    rule = f"!has(self.{limit}) || {_or_default(request, float(default))} <= self.{limit}"
    return Validation(rule, f"must be at least {request}, which is {default} where it is left out", f".{limit}")


CROSS_FIELD: dict[Place, tuple[Validation, ...]] = {
    OBJECT: _RESERVED,
    WORKLOAD: (_FOREIGN_WORKLOAD,),
    SPEC: _OF_SPEC,
    VERSION: _OF_VERSION,
    REPLICA: (
        _ONE_KIND,
        *(_companion(field, partners) for field, partners in COMPANIONS.items()),
        *_NO_RESERVED_VARIABLE,
        _NOT_TWICE,
    ),
    SECRET_NAME: (_NOT_OWN,),
    PULL_SECRET: (_NOT_OWN,),
    TOLERATION: _OF_TOLERATION,
    LABELS: (_NOT_RESERVED,),
    ANNOTATIONS: (_NOT_RESERVED,),
    COMMAND: (_PROGRAM,),
    STATIC: (_UNIQUE_ADDRESSES,),
    SPLIT_BY: (_ONE_SPLIT_VALUE,),
    ISSUER: (_ISSUER_URL,),
    **dict.fromkeys(CORS_LISTS, (_LONE_WILDCARD,)),
    ADDRESS: _VALID_ADDRESS,
    HOST_HEADER: _VALID_HOST,
    SCALER: (_least_below_most(),),
    RESOURCES: (_request_below_limit("cpu", "cpuLimit"), _request_below_limit("memoryInGB", "memoryInGBLimit")),
}
"""Path -> its rules; the number of versions, their unique names and the required fields of a pod template are in the
schema itself.
"""


def _own_settings(setting: str, fields: Mapping[str, float | None]) -> str:
    """In CEL: True unless an adopted workload has `setting` with another value than the default of a field."""
    given = (
        f"has(self.{setting}.{field})" + (f" && self.{setting}.{field} != {default}" if default is not None else "")
        for field, default in fields.items()
    )
    return f"!has(self.replica.workloadRef) || !has(self.{setting}) || !({' || '.join(given)})"


_RESOURCES = {name: field.default for name, field in DeclaredResources.model_fields.items()}
_PROBE = {name: field.default for name, field in DeclaredProbe.model_fields.items()}
IN_A_CLUSTER: dict[Place, tuple[Validation, ...]] = {
    REPLICA: tuple(
        Validation(f"!has(self.{kind})", NEEDS_IMAGE, f".{kind}") for kind in KINDS if kind in ONE_MACHINE_ONLY
    ),
    VERSION: (
        *(
            Validation(_own_settings(RESOURCES[-1], {field: default}), OWN_SETTINGS, f".{RESOURCES[-1]}.{field}")
            for field, default in _RESOURCES.items()
        ),
        Validation(_own_settings("livenessProbeRequirements", _PROBE), OWN_SETTINGS, ".livenessProbeRequirements"),
    ),
}
"""Rules of the API server alone: one machine accepts what they refuse."""
