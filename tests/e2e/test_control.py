"""`scorefront control` as processes: leader, standby and their end. The Kubernetes API is a fake."""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.kubernetes.client.paths import CONFIGMAPS, LEASES, SECRETS
from cluster.trust import Trust
from tests.fakes.clock import eventually
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.kubernetes_http import kubeconfig_of, kubernetes_server
from tests.fakes.router_group import FakeGroup

LEASE = "scorefront-control"
TOKEN = "the-token-of-this-test"
START_S = 20.0


class Process:
    """One control process; its ports stand in the Lease once it leads."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.name = name
        self.process = process
        self.errors = errors

    def said(self) -> str:
        return self.errors.read_text()

    async def rest(self) -> str:
        """URL of REST at any instance."""
        await eventually(lambda: "REST at " in self.said(), START_S)
        return self.said().partition("REST at ")[2].partition(",")[0]

    async def ended(self, within_s: float = 10.0) -> int:
        async with asyncio.timeout(within_s):
            return await self.process.wait()


class Site:
    """A played API, and the processes on it."""

    def __init__(self, folder: Path, kubeconfig: Path, api: FakeKubernetes) -> None:
        self.api = api
        self.folder = folder
        self.processes: list[Process] = []
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SCOREFRONT")},
            "KUBECONFIG": str(kubeconfig),
            "SCOREFRONT_TOKEN": TOKEN,
            "POD_IP": "127.0.0.1",
        }

    async def start(self, name: str, words: tuple[str, ...] = (), **environment: str) -> Process:
        errors = self.folder / f"{name}.err"
        listening = ("--control=127.0.0.1:0", "--link=127.0.0.1:0")
        with errors.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "scorefront", "control", *listening, *words),
                env={**self._environment, "POD_NAME": name, **environment},
                stdout=file,
                stderr=file,
            )
        self.processes.append(Process(name, process, errors))
        return self.processes[-1]

    @property
    def lease(self) -> dict[str, Any]:
        return self.api.find(LEASES, LEASE) or {"spec": {}, "metadata": {}}

    async def leads(self, process: Process) -> None:
        """Wait until it does, and answers REST itself."""
        await eventually(lambda: f"leader: {process.name}_" in process.said(), START_S)

    def annotation(self, what: str) -> str:
        return self.lease["metadata"]["annotations"][f"scorefront.io/{what}"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    api = FakeKubernetes()
    async with kubernetes_server(api) as server:
        made = Site(tmp_path, kubeconfig_of(server, tmp_path), api)
        yield made
        for each in made.processes:
            if each.process.returncode is None:
                each.process.kill()
            await each.process.wait()


async def ask(url: str, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=False) as answer:
        return answer.status, json.loads(await answer.text())


async def test_the_first_leads_creates_missing_objects_and_accepts_routers_and_rest(site: Site) -> None:
    first = await site.start("one")
    await site.leads(first)
    assert site.lease["spec"]["holderIdentity"].startswith("one_")
    for name in ("scorefront-peers", "scorefront-peers-ca"):
        assert site.api.must_find(SECRETS, name)["data"]
    assert site.api.find(CONFIGMAPS, "scorefront-trust") is not None
    rest = site.annotation("rest")
    assert await ask(f"{rest}/api/v1/endpoints") == (200, {"value": []})
    assert (await ask(f"{rest}/api/v1/endpoints", "wrong"))[0] == 401
    assert await ask(f"{rest}/readyz") == (200, {"ready": True, "waitingFor": []})
    group = await FakeGroup("a", ("a1",), mounted(site)).join(int(site.annotation("link").rpartition(":")[2]))
    await eventually(lambda: group.orders)
    assert group.fence() == 1
    first.process.send_signal(signal.SIGTERM)
    await group.ended.wait()
    await group.leave()
    assert await first.ended() == 0


def mounted(site: Site) -> Trust:
    """The Secret as a router's pod has it."""
    folder = site.folder / "mounted"
    folder.mkdir()
    for name, value in site.api.must_find(SECRETS, "scorefront-peers")["data"].items():
        (folder / name).write_bytes(base64.b64decode(value))
    return Trust(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")


async def test_a_standby_forwards_requests_and_takes_over_when_the_leader_ends(site: Site) -> None:
    first = await site.start("one")
    await site.leads(first)
    second = await site.start("two")
    standby = await second.rest()
    await eventually_ready(standby)
    assert await ask(f"{standby}/api/v1/endpoints") == (200, {"value": []})
    assert (await ask(f"{standby}/api/v1/endpoints", "wrong"))[0] == 401, "the leader says so"
    first.process.send_signal(signal.SIGTERM)
    assert await first.ended() == 0
    await site.leads(second)
    assert (site.lease["spec"]["leaseTransitions"], site.annotation("rest")) == (2, standby)
    assert await ask(f"{standby}/api/v1/endpoints") == (200, {"value": []})


async def eventually_ready(url: str) -> None:
    async with asyncio.timeout(START_S):
        while True:
            if (await ask(f"{url}/readyz"))[0] == 200:
                return
            await asyncio.sleep(0.05)


async def test_a_lost_leadership_ends_the_process_with_a_sentence_and_status_1(site: Site) -> None:
    first = await site.start("one")
    await site.leads(first)
    port = int(site.annotation("link").rpartition(":")[2])
    lease = site.lease
    stolen = {**lease["spec"], "holderIdentity": "thief_1", "leaseTransitions": 2}
    site.api.put(LEASES, {"metadata": {"name": LEASE, "annotations": {}}, "spec": stolen})
    assert await first.ended() == 1
    assert "leadership lost, this process ends" in first.said()
    assert "Traceback" not in first.said()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert site.lease["spec"]["holderIdentity"] == "thief_1", "what is not its own it does not release"


async def test_a_standby_ends_at_once_on_sigterm(site: Site) -> None:
    held = {"holderIdentity": "other_1", "leaseDurationSeconds": 60, "leaseTransitions": 4}
    site.api.put(LEASES, {"metadata": {"name": LEASE, "annotations": {}}, "spec": held})
    second = await site.start("two")
    standby = await second.rest()
    assert (await ask(f"{standby}/api/v1/endpoints"))[0] == 503
    second.process.send_signal(signal.SIGTERM)
    assert await second.ended() == 0
    assert site.lease["spec"]["holderIdentity"] == "other_1"


async def test_a_secret_that_is_spoilt_ends_the_start_with_a_sentence(site: Site) -> None:
    site.api.edit(SECRETS, "scorefront-peers", {"data": {"tls.crt": "AAAA"}})
    first = await site.start("one")
    assert await first.ended(START_S) == 1
    assert "scorefront: Secret scorefront-peers is damaged" in first.said()
    assert "Traceback" not in first.said()
    assert site.lease["spec"]["holderIdentity"] == "", "the next one need not wait"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"KUBECONFIG": "/nowhere/kubeconfig"}, "/nowhere/kubeconfig"),
        ({"SCOREFRONT_FRONTEND_MAX_ROUTERS": "many"}, "SCOREFRONT_FRONTEND_MAX_ROUTERS"),
        ({"POD_IP": ""}, "--advertise"),
    ],
)
async def test_a_fault_at_the_start_is_named(site: Site, environment: dict[str, str], told: str) -> None:
    process = await site.start("one", (), **environment)
    assert await process.ended(START_S) in (1, 2)
    assert told in process.said()
    assert "Traceback" not in process.said()
