"""Rules for every test: no process or task outlives its test, and randomness is pinned."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
OF_PROCESSES = ("cluster", "e2e", "faults", "integration/cluster_local")

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", UNTIMED, derandomize=True)
settings.register_profile("explore", UNTIMED, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes: those of some folders, and of modules that start installations."""
    folders = [HERE / name for name in OF_PROCESSES]
    for item in items:
        module = item.getparent(pytest.Module)
        starts = module is not None and hasattr(module.obj, "Installation")
        if starts or any(folder in item.path.parents for folder in folders):
            item.add_marker(pytest.mark.process)


@pytest.fixture(autouse=True)
def nothing_outlives_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a child process, or an asyncio task on the test's own loop."""
    if asyncio.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("no_task_outlives_the_test")
    before = children()
    yield
    left = [child for child in children() - before if is_alive(child) and not belongs_to(child, before)]
    if left:
        told = [told_of(child) for child in left]
        for child in left:
            child.kill()
            child.wait(10)
        pytest.fail(f"the test left {len(left)} child process(es) behind: {'; '.join(told)}")


@pytest.fixture
async def no_task_outlives_the_test() -> AsyncIterator[None]:
    """For coroutine tests; other fixtures of the test are torn down before this one looks."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    if left:
        pytest.fail(f"the test left {len(left)} task(s) behind: {', '.join(sorted(map(repr, left)))}")


def children() -> set[psutil.Process]:
    """Processes started by this one, and theirs."""
    return set(psutil.Process().children(recursive=True))


def belongs_to(process: psutil.Process, before: set[psutil.Process]) -> bool:
    """True if a process that is older than the test started it, e.g. the installation of a module: a late worker."""
    try:
        return not before.isdisjoint(process.parents())
    except psutil.NoSuchProcess:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Neither ended, nor ended and not yet waited for."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and not is_helper(process)
    except psutil.NoSuchProcess:
        return False


def is_helper(process: psutil.Process) -> bool:
    """multiprocessing keeps one process for the life of the interpreter."""
    return "resource_tracker" in " ".join(process.cmdline())


def told_of(process: psutil.Process) -> str:
    """A process as a failing test names it."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (just ended)"
