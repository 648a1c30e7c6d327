"""Sudden deaths of routers: they cost the requests on them, and nothing else."""

from loadtests.witness import over
from tests.cluster.played.router_deaths import crash_loop, load, one_death
from tests.cluster.played.site import Site

LOOP_S = 5.0


async def test_a_router_that_dies_or_crash_loops_costs_only_the_requests_on_it(site: Site, name: str) -> None:
    async with load(site, name) as callers:
        routers = sorted(each["metadata"]["name"] for each in await site.routers())
        for pod in routers:
            found = await one_death(site, callers, pod)
            assert found.passed, f"death of {pod}: {found}"
        found = await crash_loop(site, callers, routers[0], LOOP_S)
        assert found.passed, f"crash loop: {found}"
        await callers.stop()
        assert over(site.spans(), 1) == 0
    site.leave(name)
    await site.installed()
