"""Deletion of a namespace or of the installation with endpoints in it: no finalizer is left without a leader."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import pytest

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import RequestRefused
from cluster.kubernetes.client.paths import DEPLOYMENTS, NAMESPACES
from cluster.kubernetes.ending import CONTROL, EndOfInstallation, remove_finalizers
from tests.fakes.cluster import Leadership, scoring_endpoint
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object

HOME: Object = {"metadata": {"name": "home", "namespace": ""}}
LEAVING: Object = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubernetes"]}}
TERMINATING: Object = {"metadata": {**HOME["metadata"], **LEAVING["metadata"]}}
IRIS = "/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/iris"


def installed() -> FakeKubernetes:
    kubernetes = FakeKubernetes()
    kubernetes.put(NAMESPACES, HOME)
    kubernetes.put(DEPLOYMENTS, {"metadata": {"name": CONTROL}, "spec": {"replicas": 0, "template": {}}})
    return kubernetes


@pytest.fixture
async def leader() -> AsyncIterator[Leadership]:
    made = Leadership(installed())
    await made.start()
    made.plane.reports.workers_expected(["w1"])
    yield made
    await made.stop()


ENDS: dict[str, Callable[[FakeKubernetes], object]] = {
    "its namespace": lambda kubernetes: kubernetes.put(NAMESPACES, TERMINATING),
    "the control plane": lambda kubernetes: kubernetes.take_away(DEPLOYMENTS, CONTROL),
    "the control plane, slowly": lambda kubernetes: kubernetes.edit(DEPLOYMENTS, CONTROL, LEAVING),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_an_endpoint_deleted_together_with_the_rights_to_finish_it_goes_at_once(
    leader: Leadership, end: Callable[[FakeKubernetes], object]
) -> None:
    await leader.declare(scoring_endpoint())
    end(leader.kubernetes)
    await leader.settle(2)
    assert leader.has_endpoint()
    await leader.kubernetes.delete(IRIS)
    await leader.settle(0.2)
    assert not leader.has_endpoint()


async def test_an_endpoint_that_drains_goes_as_soon_as_its_namespace_is_deleted(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    await leader.kubernetes.delete(IRIS)
    await leader.settle(3)
    assert leader.has_endpoint()
    leader.kubernetes.put(NAMESPACES, TERMINATING)
    await leader.settle(1.2)
    assert not leader.has_endpoint()


async def test_a_replica_that_routers_drain_before_the_leader_has_begun_is_not_replaced(leader: Leadership) -> None:
    """Routers see the deletion of an endpoint themselves, and may report its drained replicas first."""
    await leader.declare(scoring_endpoint())
    kubernetes, answers = leader.kubernetes, asyncio.Event()
    for pod in kubernetes.pods():
        kubernetes.ready(pod)
    await leader.settle(2)
    get = kubernetes.get

    async def slowly(where: str, query: Mapping[str, str] | None = None) -> Object:
        if where.endswith("/namespaces/home"):
            await answers.wait()
        return await get(where, query)

    kubernetes.get = slowly  # type: ignore[method-assign]
    await kubernetes.delete(IRIS)
    await leader.settle(0.2)
    before = kubernetes.pods()
    for replica in leader.plane.sources.view.replicas():
        leader.plane.reports.replica_drained(replica.id)
    await leader.settle(0.4)
    assert before and kubernetes.pods() == before
    answers.set()
    await leader.settle(3)
    assert not leader.has_endpoint()


async def test_an_endpoint_that_drains_goes_at_once_with_another_of_a_deleted_installation(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    await leader.declare(scoring_endpoint("wine"))
    await leader.kubernetes.delete(IRIS)
    await leader.settle(3)
    assert leader.has_endpoint()
    leader.kubernetes.take_away(DEPLOYMENTS, CONTROL)
    await leader.kubernetes.delete(IRIS.replace("iris", "wine"))
    await leader.settle(0.2)
    assert not leader.has_endpoint("wine") and not leader.has_endpoint()


async def test_the_leader_of_a_deleted_installation_leaves_no_finalizer(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    api = cast(Api, leader.kubernetes)
    ending = EndOfInstallation(api)
    await ending.begin()
    assert not await ending.is_near()
    leader.kubernetes.take_away(DEPLOYMENTS, CONTROL)
    assert await ending.is_near()
    await remove_finalizers(api, [None])
    assert "finalizers" not in leader.endpoint()["metadata"] or not leader.endpoint()["metadata"]["finalizers"]


async def test_without_a_deployment_of_its_own_or_an_answer_nothing_ends() -> None:
    kubernetes = FakeKubernetes()
    ending = EndOfInstallation(cast(Api, kubernetes))
    await ending.begin()
    assert await ending.among({"home", "away"}) == set()
    kubernetes = installed()
    ending = EndOfInstallation(cast(Api, kubernetes))
    await ending.begin()
    kubernetes.take_away(DEPLOYMENTS, CONTROL)
    kubernetes.refusal = lambda verb, where: RequestRefused(f"{verb} {where}: 403 Forbidden", 403)
    assert not await ending.is_near()
