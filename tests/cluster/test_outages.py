"""Outages that a user does not notice: the death of a leader, an API server that goes away and comes back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from loadtests.closedloop import Tally
from loadtests.witness import over
from tests.cluster.played import records
from tests.cluster.played.kubectl import kubectl
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.records import leads, scales
from tests.cluster.played.site import HOME, LEASE, Site, without_api_server

TAKEN_OVER_S = 15.0
AWAY_S = 15.0
SEEN_S = 3.0
"""After the return of the API server: a leader that had taken silence for rest would have scaled by then."""
REFUSED = "forbidden"
READS_ROLES_S = 10.0
"""An API server that has just started refuses everybody until it has read the roles there are."""


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint(site: Site, name: str) -> AsyncIterator[str]:
    """One that scales between one and four pods, and stands at one."""
    scaler = {"minReplicas": 1, "maxReplicas": 4}
    await site.apply(name, site.version(work_ms=50, autoScaler=scaler, maxQueueWaitMs=10_000))
    await site.ready(name, 1)
    yield name
    site.leave(name)


def good(site: Site, tally: Tally) -> bool:
    """Nothing lost, nothing too much on a pod."""
    return not tally.failures and over(site.spans(), 1) == 0


async def test_a_leader_that_is_killed_is_followed_by_the_other_and_no_request_knows(site: Site, endpoint: str) -> None:
    clients = await site.clients(endpoint, 1, think_s=0.05)
    async with leads(site.kube, HOME) as led, scales(site.kube, HOME) as scaled:
        clients.start()
        old = await site.holder()
        assert site.signal(old, signal.SIGKILL)

        async def another() -> bool:
            return await site.holder() not in ("", old)

        await until(another, "another leader", TAKEN_OVER_S)
        crowd = await site.clients(endpoint, 4)
        crowd.start()
        await site.ready(endpoint, 4)
        many, few = await crowd.stop(), await clients.stop()
        assert records.at_once([each for each in led.seen if each.lease == LEASE]) == 0
        assert records.fallen_back(scaled.seen) == 0
    assert good(site, many) and good(site, few)
    await site.installed()


@pytest.mark.usefixtures("movable")
async def test_while_the_api_server_is_away_everything_is_served_and_nothing_is_scaled_down(
    site: Site, endpoint: str
) -> None:
    clients = await site.clients(endpoint, 4)
    async with scales(site.kube, HOME) as scaled:
        clients.start()
        await site.ready(endpoint, 4)
        before = len(records.steps(scaled.seen, f"{endpoint}-blue"))
        await site.all_left()
        async with without_api_server():
            await asyncio.sleep(AWAY_S)
        await asyncio.sleep(SEEN_S)
        tally = await clients.stop()
        assert len(records.steps(scaled.seen, f"{endpoint}-blue")) == before
    assert good(site, tally)
    await site.installed()


async def test_no_process_of_ours_was_refused_a_right(site: Site) -> None:
    logs = sorted((site.folder / "logs").glob(f"{HOME}_scorefront-*.log"))
    await until_so(lambda: bool(logs), "logs")
    started_unix = await api_server_started_unix()
    refused = [
        f"{log.name}: {line}"
        for log in logs
        for line in log.read_text(errors="replace").splitlines()
        if REFUSED in line.lower() and not 0 <= written_unix(line) - started_unix < READS_ROLES_S
    ]
    assert refused == []


async def api_server_started_unix() -> float:
    """Start time from its own metrics."""
    metrics = await kubectl("get", "--raw", "/metrics")
    line = next(line for line in metrics.splitlines() if line.startswith("process_start_time_seconds "))
    return float(line.split()[1])


def written_unix(line: str) -> float:
    """When a line of a log was written; 0 if it does not say."""
    try:
        return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    except ValueError:
        return 0.0
