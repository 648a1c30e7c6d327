"""Service accounts with rights and tokens of their own, before a real API server."""

import base64
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.cluster.played.kube import Kube, Object

_RBAC = "rbac.authorization.k8s.io"


async def account(kube: Kube, namespace: str, name: str, rules: Sequence[Object]) -> str:
    """A token of a new service account with these rights in the namespace. Raises ApiFailure."""
    core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/{_RBAC}/v1/namespaces/{namespace}"
    await kube.create(f"{core}/serviceaccounts", {"metadata": {"name": name}})
    await kube.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": list(rules)})
    role = {"apiGroup": _RBAC, "kind": "Role", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    await kube.create(f"{rbac}/rolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": subjects})
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = await kube.create(f"{core}/serviceaccounts/{name}/token", asked)
    return str(answer["status"]["token"])


def kubeconfig(kube: Kube, token: str, file: Path) -> Path:
    """A kubeconfig of the same cluster for a token."""
    ca = base64.b64encode(kube.cluster.ca.encode()).decode()
    told = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": kube.cluster.server, "certificate-authority-data": ca}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }
    file.write_text(yaml.safe_dump(told))
    return file


async def bind(kube: Kube, namespace: str, name: str, cluster_role: str) -> None:
    """Give a service account of a namespace the rights of a ClusterRole there. Raises ApiFailure."""
    role = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": cluster_role}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    body = {"metadata": {"name": f"{name}-{cluster_role}"}, "roleRef": role, "subjects": subjects}
    await kube.create(f"/apis/{_RBAC}/v1/namespaces/{namespace}/rolebindings", body)
