"""Foreign workloads, and a check of the writes to them."""

from typing import Any

from cluster.kubernetes.client.paths import DEPLOYMENTS
from tests.fakes.kubernetes import FakeKubernetes

Object = dict[str, Any]


def deployment(
    name: str,
    replicas: int = 5,
    owner: Object | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    app: str = "theirs",
) -> Object:
    """A Deployment of another owner.

    name         of the Deployment
    replicas     wanted pods
    owner        its controller owner reference; None: it has no owner
    labels       of the Deployment and its pods; the selector has `app` alone
    annotations  of the Deployment
    app          value of the label `app`
    """
    marks = {"app": app, **(labels or {})}
    metadata: Object = {"name": name, "labels": marks, "annotations": dict(annotations or {})}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    template = {"metadata": {"labels": marks}, "spec": {"containers": [{"name": "theirs", "image": "theirs:1"}]}}
    return {
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template},
    }


def controller(kind: str, name: str, uid: str, api_version: str = "apps.example.com/v1") -> Object:
    """A controller owner reference."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}


def endpoint_controller(name: str, uid: str) -> Object:
    """A controller owner reference to a ScoringEndpoint."""
    return controller("ScoringEndpoint", name, uid, "scorefront.io/v1alpha1")


class Untouched:
    """A Deployment and its pods as they are now; `check` fails if anything of them was written since."""

    def __init__(self, kubernetes: FakeKubernetes, name: str) -> None:
        self._kubernetes = kubernetes
        self._name = name
        self._before = self._state()
        self._calls = len(kubernetes.calls)

    def check(self) -> None:
        """Nothing was changed, and nothing was even tried."""
        assert self._state() == self._before, f"{self._name} was changed"
        tried = [(verb, where) for verb, where, _ in self._kubernetes.calls[self._calls :] if self._is_of_it(where)]
        assert tried == [], "writes were tried"

    def check_unchanged(self) -> None:
        """Nothing was changed; a write that the API server refused is none."""
        assert self._state() == self._before, f"{self._name} was changed"

    def _is_of_it(self, where: str) -> bool:
        return f"/deployments/{self._name}" in where or f"/pods/{self._name}-" in where

    def _state(self) -> tuple[Object | None, list[str]]:
        pods = [each for each in self._kubernetes.pods() if each.startswith(f"{self._name}-")]
        return self._kubernetes.find(DEPLOYMENTS, self._name), pods
