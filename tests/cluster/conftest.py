"""Tests against a real API server, with a node that is played: `make test-cluster`, else skipped."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.cluster.played.images import CACHED
from tests.cluster.played.kube import Kube
from tests.cluster.played.site import Shape, Site, installed, node

HERE = Path(__file__).parent
GRACE_S = 20
"""Termination grace of routers: longer than any request of these tests."""
ABSENT = "KUBECONFIG is not set: these tests need an API server without nodes (make test-cluster)"
SHARED = "one process runs these tests, which share an installation (make test-cluster)"
IMMOVABLE = "CLUSTER_CONTROL names no command that stops and starts the API server"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all of them: the installation is shared. Without a cluster none is run."""
    for item in items:
        if HERE in item.path.parents:
            if asyncio.iscoroutinefunction(getattr(item, "obj", None)):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(240))
            if not os.environ.get("KUBECONFIG"):
                item.add_marker(pytest.mark.skip(reason=ABSENT))
            elif "PYTEST_XDIST_WORKER" in os.environ:
                item.add_marker(pytest.mark.skip(reason=SHARED))


@pytest.fixture(autouse=True)
def nothing_outlives_the_test() -> None:
    """Here pods outlive a test, as processes of the played node: `nothing_outlives_the_run` looks at the end."""


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_run() -> Iterator[None]:
    """Fail if the node or a pod remains after the run."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="session", autouse=True)
def bytecode_is_kept() -> Iterator[None]:
    """Command lines and the node start in a third of the time."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in CACHED.items():
            patched.setenv(name, value)
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kube() -> AsyncIterator[Kube]:
    """A client with the rights of the user of the tests."""
    async with Kube() as client:
        yield client


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Journal, logs and witness. Short: sockets are made below it."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as made:
        yield Path(made)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def player(folder: Path) -> AsyncIterator[Path]:
    """A played node; its folder."""
    async with node(folder, pods=110):
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(kube: Kube, player: Path) -> AsyncIterator[Site]:
    """The product, with two of each, in charge of all namespaces."""
    settings = ("SCOREFRONT_NAMESPACES=*", f"SCOREFRONT_DRAIN_TIMEOUT_S={GRACE_S - 10}")
    shape = Shape(routers=2, controls=2, components=("all-namespaces",), settings=settings, grace_s=GRACE_S)
    async with installed(shape, kube, player) as made:
        yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of an endpoint that no other test has."""
    return f"t{abs(hash(request.node.nodeid)) % 10**8}"


@pytest.fixture
def movable() -> None:
    """Skip unless the API server can be stopped."""
    if not os.environ.get("CLUSTER_CONTROL"):
        pytest.skip(IMMOVABLE)
