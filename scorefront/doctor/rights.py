"""The rights of the two processes, as `deploy/base/rbac.yaml` grants them; a test compares both. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

PROCESSES = ("router", "control")
SECRETS = (
    "scorefront-keys",
    "scorefront-signing",
    "scorefront-control-token",
    "scorefront-peers",
    "scorefront-peers-ca",
)


class Rule(NamedTuple):
    """One rule of a Role or ClusterRole."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ("",)
    """Objects; "": all."""


AT_HOME: Mapping[str, tuple[Rule, ...]] = {
    "router": (
        Rule("", ("pods",), ("get", "list", "watch")),
        Rule("", ("configmaps",), ("get", "list", "watch"), ("scorefront-trust", "scorefront-routers")),
        Rule("", ("configmaps",), ("update",), ("scorefront-routers",)),
        Rule("", ("configmaps",), ("create",)),
        Rule("coordination.k8s.io", ("leases",), ("get", "list", "watch"), ("scorefront-control",)),
    ),
    "control": (
        Rule("coordination.k8s.io", ("leases",), ("create",)),
        Rule("coordination.k8s.io", ("leases",), ("get", "update"), ("scorefront-control",)),
        Rule("", ("configmaps",), ("create",)),
        Rule("", ("configmaps",), ("list", "watch"), ("scorefront-routers",)),
        Rule("", ("configmaps",), ("get", "update"), ("scorefront-trust",)),
        Rule("", ("secrets",), ("get", "patch"), SECRETS),
        Rule("apps", ("deployments",), ("get",), ("scorefront-router", "scorefront-control")),
        Rule("apps", ("deployments/scale",), ("get", "patch"), ("scorefront-router",)),
        Rule("", ("pods",), ("get", "list", "watch")),
        Rule("", ("pods/resize",), ("update",)),
    ),
}
"""Process -> its rules in the namespace of the installation."""
OF_ENDPOINTS: Mapping[str, tuple[Rule, ...]] = {
    "router": (
        Rule("scorefront.io", ("scoringendpoints",), ("list", "watch")),
        Rule("", ("pods",), ("list", "watch")),
    ),
    "control": (
        Rule(
            "scorefront.io",
            ("scoringendpoints",),
            ("get", "list", "watch", "create", "update", "patch", "delete"),
        ),
        Rule("scorefront.io", ("scoringendpoints/status",), ("patch",)),
        Rule("authors.scorefront.io", ("scoringendpoints",), ("represent",)),
        Rule("apps", ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
        Rule("apps", ("statefulsets",), ("get", "list", "watch", "patch")),
        Rule("apps", ("deployments/scale", "statefulsets/scale"), ("update",)),
        Rule("", ("pods",), ("list", "watch", "patch", "delete")),
        Rule("", ("pods/log",), ("get",)),
        Rule("events.k8s.io", ("events",), ("get", "create", "patch")),
        Rule("policy", ("poddisruptionbudgets",), ("list", "watch", "create", "delete")),
        Rule("autoscaling", ("horizontalpodautoscalers",), ("list", "watch")),
        Rule("", ("namespaces",), ("get",)),
    ),
}
"""Process -> its rules in every namespace with endpoints."""


@dataclass(frozen=True, slots=True)
class NeededRight:
    """One verb on one resource in one namespace."""

    group: str
    resource: str
    verb: str
    name: str
    """Object; "": all."""
    namespace: str | None
    """None: all namespaces."""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f" {self.name}" if self.name else ""
        return f"{self.verb} {what}{named} in {self.namespace or 'all namespaces'}"

    @property
    def attributes(self) -> dict[str, str]:
        """`resourceAttributes` of an access review."""
        resource, _, sub = self.resource.partition("/")
        asked = {"group": self.group, "resource": resource, "subresource": sub, "verb": self.verb}
        asked |= {"name": self.name, "namespace": self.namespace or ""}
        return {name: value for name, value in asked.items() if value}


def rights_of(process: str, home: str, watched: tuple[str | None, ...]) -> Iterator[NeededRight]:
    """Every right that a process needs.

    process: router or control.
    home: namespace of the installation.
    watched: namespaces with endpoints; None: all.
    """
    places = [(AT_HOME, home), *((OF_ENDPOINTS, namespace) for namespace in watched)]
    for rules, namespace in places:
        for rule in rules[process]:
            for resource in rule.resources:
                for verb in rule.verbs:
                    for name in rule.names:
                        yield NeededRight(rule.group, resource, verb, name, namespace)


def account_of(process: str, home: str) -> str:
    """User name of the service account of a process."""
    return f"system:serviceaccount:{home}:scorefront-{process}"


def own_review(right: NeededRight) -> dict[str, Any]:
    """Body of a SelfSubjectAccessReview."""
    return {"spec": {"resourceAttributes": right.attributes}}


def review_of(account: str, right: NeededRight) -> dict[str, Any]:
    """Body of a SubjectAccessReview for a service account."""
    namespace = account.split(":")[2]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {"spec": {"user": account, "groups": groups, "resourceAttributes": right.attributes}}
