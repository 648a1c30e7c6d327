"""From the stored object to the declared endpoint."""

from typing import Any

import pytest
from hypothesis import given

from cluster.kubernetes.objects.labels import OwnerRef
from cluster.kubernetes.objects.scoring_endpoint import document_of, endpoint_of, owner_of, static_replicas
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from serving.replica import Replica, ReplicaState
from tests.unit.serving.documents import document, valid_documents, version

OF_THE_SERVER = {
    "namespace": "home",
    "uid": "6a1f2c34-0000",
    "resourceVersion": "12",
    "generation": 3,
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "managedFields": [{"manager": "kubectl"}],
    "finalizers": ["scorefront.io/drain"],
    "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "flowers"},
}


def held(manifest: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An object as the API server returns it."""
    return {**manifest, "metadata": {**manifest["metadata"], **OF_THE_SERVER}, "status": {"ready": "1/1"}, **more}


@given(valid_documents())
def test_an_object_declares_the_same_as_its_manifest(manifest: dict[str, Any]) -> None:
    assert endpoint_of(held(manifest)) == to_endpoint(parse(manifest))


def test_additions_of_the_server_and_kubectl_are_removed_and_the_rest_stays() -> None:
    metadata = document_of(held(document()))["metadata"]
    assert metadata == {"name": "iris", "namespace": "home", "annotations": {"team": "flowers"}}


def test_an_unknown_field_is_a_fault() -> None:
    manifest = held(document(), colour="red")
    manifest["metadata"]["lables"] = {}
    with pytest.raises(InvalidManifest) as refused:
        endpoint_of(manifest)
    assert [fault.path for fault in refused.value.faults] == ["metadata.lables", "colour"]
    assert refused.value.subject == "home/iris"


@pytest.mark.parametrize("broken", [{}, {"metadata": None}, {"metadata": {"annotations": 5}}, {"metadata": []}])
def test_an_object_of_no_shape_is_refused_like_any_manifest(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        parse(document_of(broken))


def test_an_object_can_be_pointed_to() -> None:
    assert owner_of(held(document())) == OwnerRef("iris", "6a1f2c34-0000")


def test_static_replicas_are_ready_as_declared_and_the_same_for_all_routers() -> None:
    addresses = ["127.0.0.1:9400", "[::1]:80", "model.local:81"]
    blue = version(replica={"static": addresses}, maxConcurrentRequestsPerContainer=4)
    endpoint = to_endpoint(parse(document(blue, version("green", replica={"image": "m:1"}))))
    replicas = static_replicas(endpoint)
    assert replicas == static_replicas(endpoint)
    assert [(one.host, one.port) for one in replicas] == [("127.0.0.1", 9400), ("::1", 80), ("model.local", 81)]
    assert {(one.key, one.state, one.slots) for one in replicas} == {
        (VersionKey("iris", "blue"), ReplicaState.READY, 4)
    }
    assert len({one.id for one in replicas}) == 3
    assert all(isinstance(one, Replica) for one in replicas)
