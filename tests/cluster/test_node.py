"""The played node itself, with plain Deployments: the base of the other tests."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from loadtests import witness
from tests.cluster.played import journal
from tests.cluster.played.images import MODEL
from tests.cluster.played.kube import MERGE, Kube, Object
from tests.cluster.played.kubectl import Refused, kubectl
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.podstatus import is_ready

LABEL = "app=plain"


class Plain:
    """A Deployment of model servers in a namespace of its own."""

    def __init__(self, kube: Kube, folder: Path, namespace: str) -> None:
        self.kube = kube
        self.folder = folder
        self.namespace = namespace
        self.written = folder / f"witness-{namespace}"

    async def start(self, replicas: int, image: str = f"{MODEL}:1", **env: str) -> None:
        """Create it."""
        told = {"WORK_MS": "10", "WITNESS": str(self.written), **env}
        container = {
            "name": "model",
            "image": image,
            "env": [{"name": key, "value": value} for key, value in told.items()],
            "ports": [{"name": "scoring", "containerPort": 5001}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "scoring"}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        }
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "plain"}},
            "template": {
                "metadata": {"labels": {"app": "plain"}},
                "spec": {"automountServiceAccountToken": False, "containers": [container]},
            },
        }
        await self.kube.create(self.path("deployments"), {"metadata": {"name": "plain"}, "spec": spec})

    def path(self, plural: str, name: str = "") -> str:
        """In its namespace."""
        group = "/apis/apps/v1" if plural == "deployments" else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def pods(self) -> list[Object]:
        """That there are."""
        return await self.kube.items(self.path("pods"), labelSelector=LABEL)

    async def ready(self, count: int) -> list[Object]:
        """Once there are so many, all Ready."""

        async def there() -> bool:
            pods = await self.pods()
            return len(pods) == count and all(map(is_ready, pods))

        await until(there, f"{count} ready pods")
        return await self.pods()

    async def empty(self) -> bool:
        """True if no pod is left."""
        return not await self.pods()

    async def scale(self, replicas: int) -> None:
        """As kubectl scale."""
        await self.kube.patch(self.path("deployments", "plain"), {"spec": {"replicas": replicas}}, MERGE)

    def entries(self, uid: str) -> list[str]:
        """Journal entries of a pod, in order."""
        return [each.what for each in journal.read(self.folder / "journal") if each.uid == uid]


@pytest_asyncio.fixture(loop_scope="session")
async def plain(kube: Kube, player: Path, name: str) -> AsyncIterator[Plain]:
    await kube.create("/api/v1/namespaces", {"metadata": {"name": name}})
    made = Plain(kube, player, name)

    async def has_an_account() -> bool:
        return bool(await kube.get(made.path("serviceaccounts", "default")))

    await until(has_an_account, "the namespace's service account")
    yield made
    await kube.delete(made.path("deployments", "plain"), {"propagationPolicy": "Background"})
    await until(made.empty, "the end of the pods")
    await kube.delete(f"/api/v1/namespaces/{name}")


async def ask(pod: Object) -> int:
    """Score a pod at its own address; the status."""
    url = f"http://{pod['status']['podIP']}:5001/score"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
        return answer.status


def main_process(plain: Plain, pod: Object) -> int:
    entries = journal.read(plain.folder / "journal")
    uid = pod["metadata"]["uid"]
    return [each.pid for each in entries if each.uid == uid and each.what == journal.STARTED][-1]


async def test_each_pod_has_an_address_of_its_own_process(plain: Plain) -> None:
    await plain.start(2)
    pods = await plain.ready(2)
    assert len({pod["status"]["podIP"] for pod in pods}) == 2
    assert [await ask(pod) for pod in pods] == [200, 200]
    assert {span.replica for span in witness.read(plain.written)} == {str(main_process(plain, pod)) for pod in pods}


async def test_a_pod_that_is_deleted_runs_on_through_its_prestop_and_then_leaves_nothing(plain: Plain) -> None:
    await plain.start(1)
    (pod,) = await plain.ready(1)
    pid = main_process(plain, pod)
    await plain.scale(0)
    await until_so(lambda: journal.LEAVING in plain.entries(pod["metadata"]["uid"]), "the order to leave")
    assert await ask(pod) == 200
    await until(plain.empty, "the end of the pod")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_container_that_is_killed_is_started_again_in_the_same_pod(plain: Plain) -> None:
    await plain.start(1)
    (pod,) = await plain.ready(1)
    before = main_process(plain, pod)
    os.kill(before, signal.SIGKILL)
    await until_so(lambda: main_process(plain, pod) != before, "another process")
    (after,) = await plain.ready(1)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 1
    assert await ask(after) == 200


async def test_an_image_that_is_not_played_is_a_failed_pull(plain: Plain) -> None:
    await plain.start(1, image="registry.example/unknown:1")

    async def told() -> bool:
        states = [each["state"] for pod in await plain.pods() for each in pod["status"].get("containerStatuses", ())]
        return [each["waiting"]["reason"] for each in states if "waiting" in each] == ["ErrImagePull"]

    await until(told, "a pull that failed")


async def test_kubectl_shows_the_log_of_a_container(plain: Plain) -> None:
    await plain.start(1, WORK_MS="nonsense")

    async def shown() -> bool:
        try:
            return "invalid float value" in await kubectl("-n", plain.namespace, "logs", "deployment/plain")
        except Refused:  # it has not begun yet
            return False

    await until(shown, "the log")
