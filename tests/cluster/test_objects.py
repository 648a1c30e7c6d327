"""The translated objects before a real API server: accepted unchanged, field by field, with nothing dropped."""

import base64
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.paths import DEPLOYMENTS, EVENTS, SECRETS, Resource, path
from cluster.kubernetes.objects.deployment import deployment
from cluster.kubernetes.objects.event import EventType, event
from cluster.kubernetes.objects.keys import KEYS_SECRET, KeyEntry, encoded_entry, entry_in
from cluster.kubernetes.objects.labels import OwnerRef
from serving.manifest import parse, to_endpoint
from tests.unit.serving.documents import document, version

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no cluster: KUBECONFIG is not set"),
]

HOME = "default"
OWNER = OwnerRef("iris", "6a1f2c34-0000-4000-8000-000000000001")
IMAGE = {"image": "registry.example.com/model:1", "env": {"A": "1"}}
POD = {"spec": {"containers": [{"name": "mine", "image": "mine:1"}, {"name": "beside", "image": "beside:1"}]}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api() -> AsyncIterator[Api]:
    api = await Api.connect()
    yield api
    await api.close()


async def applied(api: Api, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
    """The stored form; an unknown field is an error."""
    where = path(resource, HOME, body["metadata"]["name"])
    return await api.apply(f"{where}?dryRun=All&fieldValidation=Strict", body)


@pytest.mark.parametrize("replica", [IMAGE, {"podTemplate": POD}], ids=["image", "podTemplate"])
async def test_a_deployment_is_stored_as_it_was_made(api: Api, replica: dict[str, Any]) -> None:
    needs = {"cpu": 0.29, "cpuLimit": 2, "memoryInGBLimit": 1, "gpu": 1}
    declared = document(version(replica=replica, containerResourceRequirements=needs))
    [made] = to_endpoint(parse(declared)).versions
    body = deployment("iris", HOME, made, OWNER)
    assert lost(body, await applied(api, DEPLOYMENTS, body)) == []


async def test_the_keys_come_back_from_their_secret(api: Api) -> None:
    entry = KeyEntry(OWNER.uid, "p" * 43, "s" * 43)
    data = {f"{HOME}.iris": base64.b64encode(encoded_entry(entry)).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS_SECRET, "namespace": HOME}, "data": data}
    found = {"metadata": {"name": "iris", "namespace": HOME, "uid": OWNER.uid}}
    assert entry_in(await applied(api, SECRETS, body), found) == entry


async def test_an_event_is_taken(api: Api) -> None:
    about = {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": "iris", "namespace": HOME, "uid": OWNER.uid},
    }
    body = event(about, EventType.WARNING, "NoRoom", "…" * 900, "2026-01-02T03:04:05Z")
    stored = await api.create(path(EVENTS, HOME), body, {"dryRun": "All", "fieldValidation": "Strict"})
    assert lost(body, stored) == []


def lost(said: Any, stored: Any, at: str = "") -> list[str]:
    """Differences of `stored` from the declaration; quantities may be written another way."""
    if isinstance(said, dict):
        return [place for name, part in said.items() for place in lost(part, stored.get(name, {}), f"{at}.{name}")]
    if isinstance(said, list):
        pairs = zip(said, stored, strict=True)
        return [place for index, (one, other) in enumerate(pairs) for place in lost(one, other, f"{at}[{index}]")]
    return [] if said == stored or at.endswith(".memory") else [f"{at}: {said} became {stored}"]
