"""The collections followed by a router of a cluster, from the lists to the messages for its workers. In virtual
time.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from cluster.kubernetes.client.api_errors import ApiUnreachable
from cluster.kubernetes.discovery import TRUST
from cluster.kubernetes.snapshot import Snapshot
from cluster.link import RemoveReplica, ToWorker, UpsertEndpoint, UpsertReplica
from scorefront.cluster_names import watched_namespaces
from scorefront.router.cluster_watch import ClusterWatch
from tests.fakes.virtual_loop import LoopClock, run_virtually

Object = dict[str, Any]
ENDPOINTS = "/apis/scorefront.io/v1alpha1/namespaces/{}/scoringendpoints"
PODS = "/api/v1/namespaces/{}/pods"


class Lists:
    """Collections by path; `happen` tells the watches."""

    home = "home"

    def __init__(self) -> None:
        self.items: dict[str, list[Object]] = defaultdict(list)
        self.events: dict[str, asyncio.Queue[Object]] = defaultdict(asyncio.Queue)
        self.away = False

    def happen(self, path: str, kind: str, found: Object) -> None:
        self.events[path].put_nowait({"type": kind, "object": found})

    async def get(self, path: str, query: Mapping[str, str]) -> Object:
        await asyncio.sleep(0.01)
        if self.away:
            raise ApiUnreachable("refused")
        return {"metadata": {"resourceVersion": "1"}, "items": self.items[path]}

    async def lines(self, path: str, query: Mapping[str, str], silent_s: float) -> AsyncGenerator[bytes, None]:
        while True:
            yield json.dumps(await self.events[path].get()).encode()


def endpoint(name: str, namespace: str = "a") -> Object:
    metadata = {"name": name, "namespace": namespace, "uid": name, "generation": 1, "resourceVersion": "1"}
    versions = [{"name": "blue", "replica": {"image": "registry/model:1"}}]
    spec = {"versions": versions}
    return {"apiVersion": "scorefront.io/v1alpha1", "kind": "ScoringEndpoint", "metadata": metadata, "spec": spec}


def pod(name: str, namespace: str = "a", version: str = "1") -> Object:
    labels = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}
    metadata = {"name": name, "namespace": namespace, "uid": "0" * 10, "labels": labels, "resourceVersion": version}
    status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": metadata, "status": status}


class Seen:
    def __init__(self, api: Lists) -> None:
        self.messages: list[ToWorker] = []
        self.own: list[Object] = []
        self.gone: list[str] = []
        self.watch = ClusterWatch(
            api,  # type: ignore[arg-type]  # what is asked of it
            ("a", "b"),
            LoopClock(),
            lambda: 0.5,
            self.messages.append,
            self.own.append,
            self.gone.append,
        )
        self.running = asyncio.create_task(self.watch.run(), name="watch")


def test_everything_is_listed_once_and_then_followed() -> None:
    async def story() -> None:
        api = Lists()
        api.items[ENDPOINTS.format("a")] = [endpoint("iris")]
        api.items[PODS.format("a")] = [pod("p1")]
        seen = Seen(api)
        async with asyncio.timeout(5):
            await seen.watch.listed.wait()
        assert [each.name for each in seen.watch.discovery.snapshot().endpoints] == ["iris"]
        assert len(seen.watch.discovery.snapshot().replicas) == 1
        del seen.messages[:]
        api.happen(PODS.format("a"), "ADDED", pod("p2", version="2"))
        api.happen(PODS.format("a"), "DELETED", pod("p1", version="3"))
        api.happen(ENDPOINTS.format("b"), "ADDED", endpoint("rose", "b"))
        await asyncio.sleep(1)
        assert [type(each) for each in seen.messages if not isinstance(each, UpsertEndpoint)][:1] == [UpsertReplica]
        assert RemoveReplica("p1.00000000") in seen.messages
        assert any(isinstance(each, UpsertEndpoint) and each.endpoint.name == "rose" for each in seen.messages)
        assert seen.watch.age_s() < 5

    run_virtually(story())


def test_the_ends_of_the_installations_own_containers_are_passed_on() -> None:
    async def story() -> None:
        api = Lists()
        seen = Seen(api)
        async with asyncio.timeout(5):
            await seen.watch.listed.wait()
        ended = {"name": "router", "state": {"terminated": {"exitCode": 137}}, "image": "not kept"}
        router = pod("r1", "home", version="2")
        router["status"]["containerStatuses"] = [ended]
        api.happen(PODS.format("home"), "ADDED", router)
        api.happen(PODS.format("home"), "DELETED", pod("r1", "home", version="3"))
        await asyncio.sleep(1)
        (own,) = seen.own
        assert own["status"]["containerStatuses"] == [{name: ended[name] for name in ("name", "state")}]
        assert seen.gone == ["r1"]

    run_virtually(story())


def test_the_known_state_is_there_while_the_api_is_away_and_is_compared_later() -> None:
    async def story() -> None:
        api = Lists()
        api.away = True
        seen = Seen(api)
        endpoints = {"a": [endpoint("iris"), endpoint("gone")], "b": []}
        seen.watch.restore(Snapshot("pod", "uid", endpoints, {"a": [pod("p1")]}, []))
        await asyncio.sleep(60)
        assert {each.name for each in seen.watch.discovery.snapshot().endpoints} == {"iris", "gone"}
        assert not seen.watch.listed.is_set()
        assert seen.watch.age_s() == float("inf")
        assert "refused" in seen.watch.last_error()
        api.away = False
        api.items[ENDPOINTS.format("a")] = [endpoint("iris")]
        api.items[PODS.format("a")] = [pod("p1")]
        await asyncio.sleep(60)
        assert seen.watch.listed.is_set()
        assert [each.name for each in seen.watch.discovery.snapshot().endpoints] == ["iris"]
        assert not any(isinstance(each, UpsertReplica | RemoveReplica) for each in seen.messages), "it never changed"
        kept_endpoints, kept_pods, trust = seen.watch.known()
        assert [each["metadata"]["name"] for each in kept_endpoints["a"]] == ["iris"]
        assert [each["metadata"]["name"] for each in kept_pods["a"]] == ["p1"]
        assert trust == []

    run_virtually(story())


def test_namespaces_that_are_watched() -> None:
    assert watched_namespaces({}, "home") == ("home",)
    assert watched_namespaces({"SCOREFRONT_NAMESPACES": " a, b,,a "}, "home") == ("a", "b")
    assert watched_namespaces({"SCOREFRONT_NAMESPACES": "a,*"}, "home") == (None,)
    assert TRUST == "scorefront-trust"
