"""Paths as the Kubernetes API documents them."""

import pytest

from cluster.kubernetes.client import paths
from cluster.kubernetes.client.paths import Resource, path


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (path(paths.PODS, None), "/api/v1/pods"),
        (path(paths.PODS, "ml", "iris-0", "log"), "/api/v1/namespaces/ml/pods/iris-0/log"),
        (
            path(paths.DEPLOYMENTS, "ml", "iris-blue", "scale"),
            "/apis/apps/v1/namespaces/ml/deployments/iris-blue/scale",
        ),
        (
            path(paths.ENDPOINTS, "ml", "iris", "status"),
            "/apis/scorefront.io/v1alpha1/namespaces/ml/scoringendpoints/iris/status",
        ),
        (path(paths.LEASES, "ml"), "/apis/coordination.k8s.io/v1/namespaces/ml/leases"),
        (path(paths.NODES, None, "n1"), "/api/v1/nodes/n1"),
        (path(paths.PODS, "ml", "../secrets/x"), "/api/v1/namespaces/ml/pods/..%2Fsecrets%2Fx"),
    ],
)
def test_paths_of_the_api(found: str, expected: str) -> None:
    assert found == expected


def test_an_api_version_names_the_group_unless_it_is_the_core() -> None:
    assert paths.PODS.api_version == "v1"
    assert Resource("apps", "v1", "deployments", "Deployment").api_version == "apps/v1"
